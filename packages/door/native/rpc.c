/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to the door and one exchange on them. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define HIGH_FD 900
/* Not an errno: the connection is gone, and with it the door. */
#define BROKEN (-100000L)

static struct sockaddr_un door_address;
static socklen_t door_address_length;
static char door_token[TOKEN_BYTES];

/* The connection of this thread; valid while the inode still matches. */
static __thread int rpc_fd __attribute__((tls_model("initial-exec"))) = -1;
static __thread uint64_t rpc_inode __attribute__((tls_model("initial-exec")));
static __thread int rpc_pid __attribute__((tls_model("initial-exec")));

/* The door's name, without the leading NUL of the abstract namespace, and its token. */
__attribute__((constructor)) static void door_setup(void)
{
	const char *name = getenv("IOMMUKIT_DOOR");
	const char *token = getenv("IOMMUKIT_TOKEN");
	size_t length = name ? strlen(name) : 0;

	if (length == 0 || length + 1 > sizeof(door_address.sun_path) || !token || strlen(token) != TOKEN_BYTES)
		return;
	door_address.sun_family = AF_UNIX;
	memcpy(door_address.sun_path + 1, name, length);
	/* Node 20 binds an abstract name padded with zeros to the whole of sun_path. */
	door_address_length = sizeof(door_address);
	memcpy(door_token, token, TOKEN_BYTES);
}

int door_available(void)
{
	return door_address_length != 0;
}

int door_path(const char *path)
{
	if (!door_available() || !path)
		return 0;
	/* The folders are in the tree of files, see sysfs.c. */
	if (strcmp(path, "/dev/vfio/") == 0 || strcmp(path, "/dev/vfio/devices") == 0 || strcmp(path, "/dev/vfio/devices/") == 0)
		return 0;
	return strcmp(path, "/dev/iommu") == 0 || strncmp(path, "/dev/vfio/", 10) == 0;
}

/* Raw system calls: the wrappers of this library must not be entered again. */
static int raw_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static int socket_inode(int fd, uint64_t *inode)
{
	struct stat st;

	if (syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) != 0 || !S_ISSOCK(st.st_mode))
		return -1;
	*inode = st.st_ino;
	return 0;
}

int door_is_ours(int fd, uint64_t *inode)
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);
	int saved = errno;
	int ours = 0;

	if (door_available() && socket_inode(fd, inode) == 0 &&
	    getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && length == door_address_length)
		ours = memcmp(&peer, &door_address, length) == 0;
	errno = saved;
	return ours;
}

int door_raise(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (moved < 0)
		return fd;
	raw_close(fd);
	return moved;
}

static int dial(int high)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (syscall(SYS_connect, fd, &door_address, door_address_length) != 0) {
		raw_close(fd);
		return -1;
	}
	return high ? door_raise(fd) : fd;
}

static int kvm_opened;

void door_kvm_opened(void)
{
	kvm_opened = 1;
}

int door_traps(void)
{
#if defined(__x86_64__)
	return !kvm_opened;
#else
	return 0;
#endif
}

static int send_all(int fd, struct iovec *parts, int count)
{
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = (size_t)count };

	while (message.msg_iovlen > 0) {
		/* Not the function of libc, in which a thread may be cancelled. */
		ssize_t sent = syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL);

		if (sent < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen > 0) {
			message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

static int receive_all(int fd, void *target, size_t length)
{
	char *at = target;

	while (length > 0) {
		ssize_t got = syscall(SYS_recvfrom, fd, at, length, 0, NULL, NULL);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		at += got;
		length -= (size_t)got;
	}
	return 0;
}

/* All of them, whatever program or shim make of sigprocmask. */
uint64_t door_block_signals(void)
{
	uint64_t all = ~0ULL, before = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all));
	return before;
}

void door_restore_signals(uint64_t mask)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/* Memory of this process by address: a wild pointer is an error, not a crash. */
long door_copy_from(const void *address, void *target, size_t length)
{
	struct iovec local = { target, length };
	struct iovec remote = { (void *)(uintptr_t)address, length };

	return syscall(SYS_process_vm_readv, (long)getpid(), &local, 1L, &remote, 1L, 0L);
}

int door_copy_to(uint64_t address, const void *source, size_t length)
{
	struct iovec local = { (void *)(uintptr_t)source, length };
	struct iovec remote = { (void *)(uintptr_t)address, length };

	return syscall(SYS_process_vm_writev, (long)getpid(), &local, 1L, &remote, 1L, 0L) == (long)length ? 0 : -1;
}

/* One piece of a reply, into memory that may not be there. Not inline: its buffer is too large for a signal handler's stack. */
__attribute__((noinline)) static long take_copy(int fd, const struct copy *copy, int *fault)
{
	char buffer[4096];

	for (uint32_t done = 0; done < copy->length;) {
		size_t part = copy->length - done < sizeof(buffer) ? copy->length - done : sizeof(buffer);

		if (receive_all(fd, buffer, part) != 0)
			return BROKEN;
		if (!*fault && door_copy_to(copy->address + done, buffer, part) != 0)
			*fault = 1;
		done += (uint32_t)part;
	}
	return 0;
}

/*
 * Stores what the reply carries, or puts it into `own` when that is given. Keeps reading after a bad address, so that the
 * stream stays in step.
 */
static long take_reply(int fd, uint32_t *flags, void *own, size_t room)
{
	struct reply reply;
	int fault = 0;

	if (receive_all(fd, &reply, sizeof(reply)) != 0)
		return BROKEN;
	for (uint32_t i = 0; i < reply.copies; i++) {
		struct copy copy;

		if (receive_all(fd, &copy, sizeof(copy)) != 0)
			return BROKEN;
		if (own && copy.length != room)
			return BROKEN;
		if (own ? receive_all(fd, own, room) != 0 : take_copy(fd, &copy, &fault) != 0)
			return BROKEN;
	}
	*flags = reply.flags;
	return fault ? -EFAULT : reply.result;
}

static long exchange(int fd, struct request *request, const void *in, uint32_t *flags, void *own, size_t room)
{
	struct iovec parts[2] = { { request, sizeof(*request) }, { (void *)(uintptr_t)in, request->inlen } };

	request->length = (uint32_t)sizeof(*request) + request->inlen;
	request->pid = (uint32_t)getpid();
	request->tid = (uint32_t)syscall(SYS_gettid);
	request->flags |= door_traps() ? TRAPS : 0;
	if (send_all(fd, parts, request->inlen > 0 ? 2 : 1) != 0)
		return BROKEN;
	return take_reply(fd, flags, own, room);
}

/* This thread's connection, made anew after fork and after somebody closed or reused its number. */
static int rpc_connection(void)
{
	uint64_t inode;

	if (rpc_fd >= 0) {
		int same = socket_inode(rpc_fd, &inode) == 0 && inode == rpc_inode;

		if (same && rpc_pid == getpid())
			return rpc_fd;
		if (same)
			raw_close(rpc_fd);
		rpc_fd = -1;
	}
	int fd = dial(1);

	if (fd < 0 || socket_inode(fd, &inode) != 0)
		return -1;
	struct request hello = { .op = OP_HELLO, .inode = inode, .inlen = TOKEN_BYTES };
	uint32_t flags;

	if (exchange(fd, &hello, door_token, &flags, NULL, 0) != 0) {
		raw_close(fd);
		return -1;
	}
	rpc_fd = fd;
	rpc_inode = inode;
	rpc_pid = getpid();
	return fd;
}

/* One exchange with every signal held back: a handler that comes here too must not find half a message. */
static long call(struct request *request, const void *in, uint32_t *flags, void *own, size_t room)
{
	uint64_t before = door_block_signals();
	uint32_t unused;
	long result;
	int fd = rpc_connection();

	if (fd < 0) {
		result = -EIO;
	} else {
		result = exchange(fd, request, in, flags ? flags : &unused, own, room);
		if (result == BROKEN) {
			raw_close(fd);
			rpc_fd = -1;
			result = -EIO;
		}
	}
	door_restore_signals(before);
	return result;
}

long door_call(struct request *request, const void *in, uint32_t *flags)
{
	return call(request, in, flags, NULL, 0);
}

long door_fetch(struct request *request, void *bytes, size_t length)
{
	return call(request, NULL, NULL, bytes, length);
}

/* A fake descriptor whose first message is `op` with the token and a path; or a negative errno. */
static int greeted(enum operation op, const char *path, int open_flags, uint64_t *inode)
{
	char in[TOKEN_BYTES + 256];
	size_t length = strlen(path);
	uint32_t flags;

	if (length > sizeof(in) - TOKEN_BYTES)
		return -ENOENT;
	memcpy(in, door_token, TOKEN_BYTES);
	memcpy(in + TOKEN_BYTES, path, length);
	int fd = dial(0);

	if (fd < 0)
		return errno == EMFILE ? -EMFILE : -EIO;
	if (socket_inode(fd, inode) != 0) {
		raw_close(fd);
		return -ENODEV;
	}
	struct request request = { .op = op, .inode = *inode, .flags = (uint32_t)open_flags, .inlen = (uint32_t)(TOKEN_BYTES + length) };
	long result = exchange(fd, &request, in, &flags, NULL, 0);

	if (result < 0) {
		raw_close(fd);
		return result == BROKEN ? -EIO : (int)result;
	}
	return fd;
}

/* A fresh fake descriptor, or a negative errno. */
int door_open(const char *path, int flags)
{
	uint64_t inode;
	int fd = greeted(OP_OPEN, path, flags, &inode);

	if (fd >= 0 && !(flags & O_CLOEXEC))
		fcntl(fd, F_SETFD, 0);
	return fd;
}

/* A descriptor for a file that a call may make. Like those of Linux it closes on exec. */
int door_spare(uint64_t *inode)
{
	return greeted(OP_SPARE, "", O_CLOEXEC, inode);
}

void door_discard(int fd)
{
	raw_close(fd);
}

/* Opens what the door has open as `number`. */
int door_descriptor(int number)
{
	char path[64];
	const char *parent = getenv("IOMMUKIT_PARENT");

	if (!parent)
		return -ENODEV;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", atoi(parent), number);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Takes the byte that makes poll say "readable". */
void door_drain(int fd)
{
	char byte;
	int saved = errno;

	(void)!recv(fd, &byte, 1, MSG_DONTWAIT);
	errno = saved;
}
