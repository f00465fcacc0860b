/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGSEGV and SIGILL are ours once registers are mapped; the program's handlers for them get what is not ours. Neither is ever blocked:
 * a fault that is would end the program.
 */
#if defined(__x86_64__)
#define _GNU_SOURCE
#include "shim.h"
#include "trap.h"
#include "wrap.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static void (*our_handler)(int, siginfo_t *, void *);
/* What the program has in mind for each, once they are ours. */
static struct sigaction segv, ill;

/* As the one of regions.c. */
static int locked;
static uint64_t forking;

static uint64_t lock(void)
{
	uint64_t before = door_block_signals();

	while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	return before;
}

static void unlock(uint64_t state)
{
	__atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
	door_restore_signals(state);
}

static void before_fork(void)
{
	uint64_t state = lock();

	forking = state;
}

static void after_fork(void)
{
	unlock(forking);
}

__attribute__((constructor)) static void signals_setup(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static struct sigaction *action_of(int number)
{
	return number == SIGSEGV ? &segv : number == SIGILL ? &ill : NULL;
}

static void unblock(sigset_t *set)
{
	sigdelset(set, SIGSEGV);
	sigdelset(set, SIGILL);
}

static int real_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	static int (*real)(int, const struct sigaction *, struct sigaction *);

	if (!real)
		real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
	return real(number, action, old);
}

/* On the stack that the program's handler expects: an overflow of the other may be what it is for. */
static void install(int number)
{
	struct sigaction own = { .sa_sigaction = our_handler, .sa_flags = SA_SIGINFO | SA_RESTART };

	own.sa_flags |= action_of(number)->sa_flags & SA_ONSTACK;
	sigfillset(&own.sa_mask);
	real_sigaction(number, &own, NULL);
}

void signals_take(void (*handler)(int, siginfo_t *, void *))
{
	uint64_t state = lock();

	if (!our_handler) {
		our_handler = handler;
		real_sigaction(SIGSEGV, NULL, &segv);
		real_sigaction(SIGILL, NULL, &ill);
		install(SIGSEGV);
		install(SIGILL);
	}
	unlock(state);
}

int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction *kept = action_of(number), wanted, before;

	if (!door_available())
		return real_sigaction(number, action, old);
	if (action) {
		wanted = *action;
		unblock(&wanted.sa_mask);
		action = &wanted;
	}
	if (!kept)
		return real_sigaction(number, action, old);
	uint64_t state = lock();
	int result = 0;

	if (our_handler) {
		before = *kept;
		if (action) {
			*kept = wanted;
			install(number);
		}
	} else {
		result = real_sigaction(number, action, &before);
	}
	unlock(state);
	if (old && result == 0)
		*old = before;
	return result;
}

static sighandler_t set_handler(int number, sighandler_t handler, int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, old;

	if (!(flags & SA_NODEFER))
		sigaddset(&action.sa_mask, number);
	return sigaction(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

sighandler_t signal(int number, sighandler_t handler)
{
	REAL(signal);

	return action_of(number) ? set_handler(number, handler, SA_RESTART) : real(number, handler);
}

/* What signal is in a program of strict ISO C. */
sighandler_t __sysv_signal(int number, sighandler_t handler);
sighandler_t __sysv_signal(int number, sighandler_t handler)
{
	REAL(__sysv_signal);

	return action_of(number) ? set_handler(number, handler, (int)(SA_RESETHAND | SA_NODEFER)) : real(number, handler);
}

/* The set without ours. */
static const sigset_t *blockable(int how, const sigset_t *set, sigset_t *copy)
{
	if (!set || how == SIG_UNBLOCK || !door_available())
		return set;
	*copy = *set;
	unblock(copy);
	return copy;
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	REAL(sigprocmask);
	sigset_t copy;

	return real(how, blockable(how, set, &copy), old);
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	REAL(pthread_sigmask);
	sigset_t copy;

	return real(how, blockable(how, set, &copy), old);
}

/* Sends a signal to this thread, which gets it where the context says as soon as our handler has returned. */
static void queue(int number, siginfo_t *info)
{
	syscall(SYS_rt_tgsigqueueinfo, (long)getpid(), syscall(SYS_gettid), number, info);
}

static void die(int number, siginfo_t *info, ucontext_t *context)
{
	struct sigaction fatal = { .sa_handler = SIG_DFL };

	real_sigaction(number, &fatal, NULL);
	sigdelset(&context->uc_sigmask, number);
	queue(number, info);
}

/* The program's action for a signal that is ours, which it may have for one time only. */
static struct sigaction program_action(int number)
{
	uint64_t state = lock();
	struct sigaction *kept = action_of(number), action = *kept;

	if (action.sa_flags & (int)SA_RESETHAND)
		kept->sa_handler = SIG_DFL;
	unlock(state);
	return action;
}

static void run_handler(int number, siginfo_t *info, ucontext_t *context)
{
	struct sigaction action = program_action(number);
	int is_sent = info->si_code <= 0;
	sigset_t mask;

	if (action.sa_handler == SIG_IGN && is_sent)
		return;
	if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
		die(number, info, context);
		return;
	}
	sigorset(&mask, &context->uc_sigmask, &action.sa_mask);
	unblock(&mask);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(uint64_t));
	if (action.sa_flags & SA_SIGINFO)
		action.sa_sigaction(number, info, context);
	else
		action.sa_handler(number);
	unblock(&context->uc_sigmask);
}

int signals_handled(int number)
{
	struct sigaction action;

	return real_sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

/* One of the program's alone: the system runs its handler, and ends a program that has none or blocks it. */
static void raise_other(int number, siginfo_t *info, ucontext_t *context)
{
	struct sigaction action;

	real_sigaction(number, NULL, &action);
	if (action.sa_handler == SIG_IGN || sigismember(&context->uc_sigmask, number))
		die(number, info, context);
	else
		queue(number, info);
}

void signals_forward(int number, siginfo_t *info, void *context)
{
	if (action_of(number))
		run_handler(number, info, context);
	else
		raise_other(number, info, context);
}
#endif
