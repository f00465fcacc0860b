/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of a device in memory: accesses fault, and are done in the place of the program. */
#ifndef IOMMUKIT_TRAP_H
#define IOMMUKIT_TRAP_H

#include <signal.h>

/* From now on SIGSEGV and SIGILL come to us first. */
void trap_setup(void);

/* signals.c: takes over both signals. `handler` runs with all others held back. */
void signals_take(void (*handler)(int, siginfo_t *, void *));

/* Gives a signal to the program's own handler, or does what the system would do. */
void signals_forward(int number, siginfo_t *info, void *context);

/* The program has a handler for a signal that is not ours. */
int signals_handled(int number);

#endif
