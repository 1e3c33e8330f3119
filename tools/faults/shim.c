/* Preloaded into the commands under test: the n-th call that changes files below a folder is struck.
 *
 * Python, Arrow, DuckDB and Rust all come through libc, so that one place sees every write. Calls are counted over all
 * threads. fault_arm(folder, action, number, lasting, jump): action > 0 is the errno that the call fails with, KILL dies
 * before it, TORN dies after half of a write, TERM and INT send the signal and let the call go on, SLOW sleeps 2 ms in
 * every call, NONE counts only. lasting: every later call fails too (a full disk stays full). jump: seconds that the
 * wall clock moves at the n-th call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE = 0, KILL = -1, TORN = -2, TERM = -3, INT = -4, SLOW = -5 };
enum { FILES = 1 << 16 };

static char root[4096];
static size_t length;
static int action, lasting;
static long number, jump;
static atomic_long seen, shift;
static unsigned char watched[FILES];

void fault_arm(const char *folder, int what, long at, int stays, long seconds) {
    strncpy(root, folder, sizeof root - 1);
    action = what; number = at; lasting = stays; jump = seconds;
    atomic_store(&seen, 0); atomic_store(&shift, 0);
    length = strlen(root);
}

long fault_seen(void) { return atomic_load(&seen); }

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(type, name) static type (*host)(); if (!host) host = (type (*)())real(name)

static int below(const char *path) {
    if (!length || !path) return 0;
    if (path[0] == '/') return strncmp(path, root, length) == 0;
    char here[4096];
    return getcwd(here, sizeof here) && strncmp(here, root, length) == 0;
}

static int is_watched(int fd) { return length && fd >= 0 && fd < FILES && watched[fd]; }

/* 1: the call fails with errno set. 2: it is to be torn. 0: it goes on. */
static int struck(int writes) {
    long n = atomic_fetch_add(&seen, 1) + 1;
    if (action == SLOW) { struct timespec t = {0, 2000000}; nanosleep(&t, NULL); return 0; }
    if (n < number || !number || (n > number && !lasting)) return 0;
    if (jump) { atomic_store(&shift, jump); return 0; }
    switch (action) {
    case NONE: return 0;
    case KILL: kill(getpid(), SIGKILL); for (;;) pause();
    case TORN: if (writes) return 2; kill(getpid(), SIGKILL); for (;;) pause();
    case TERM: kill(getpid(), SIGTERM); return 0;
    case INT: kill(getpid(), SIGINT); return 0;
    default: errno = action; return 1;
    }
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int changing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

static int opened(const char *name, int at, const char *path, int flags, mode_t mode) {
    int (*host)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))real(name);
    int ours = changing(flags) && below(path);
    if (ours && struck(0) == 1) return -1;
    int fd = host(at, path, flags, mode);
    if (fd >= 0 && fd < FILES) watched[fd] = (unsigned char)ours;
    return fd;
}

#define MODE(last) mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, last); mode = va_arg(a, int); va_end(a); }
int open(const char *path, int flags, ...) { MODE(flags) return opened("openat", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened("openat64", AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened("openat", at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened("openat64", at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened("openat", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static FILE *streamed(const char *name, const char *path, const char *mode) {
    FILE *(*host)(const char *, const char *) = (FILE * (*)(const char *, const char *)) real(name);
    int ours = strpbrk(mode, "wa+") != NULL && below(path);
    if (ours && struck(0) == 1) return NULL;
    FILE *file = host(path, mode);
    if (file && fileno(file) < FILES) watched[fileno(file)] = (unsigned char)ours;
    return file;
}
FILE *fopen(const char *path, const char *mode) { return streamed("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return streamed("fopen64", path, mode); }

int close(int fd) {
    static int (*host)(int);
    if (!host) host = (int (*)(int))real("close");
    if (fd >= 0 && fd < FILES) watched[fd] = 0;
    return host(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*host)(int, const void *, size_t);
    if (!host) host = (ssize_t (*)(int, const void *, size_t))real("write");
    if (is_watched(fd)) {
        int what = struck(1);
        if (what == 1) return -1;
        if (what == 2) { if (host(fd, data, size / 2) < 0) {} die(); }
    }
    return host(fd, data, size);
}

static ssize_t placed(const char *name, int fd, const void *data, size_t size, off_t at) {
    ssize_t (*host)(int, const void *, size_t, off_t) = (ssize_t (*)(int, const void *, size_t, off_t))real(name);
    if (is_watched(fd)) {
        int what = struck(1);
        if (what == 1) return -1;
        if (what == 2) { if (host(fd, data, size / 2, at) < 0) {} die(); }
    }
    return host(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return placed("pwrite", fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return placed("pwrite64", fd, data, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev");
    if (is_watched(fd) && struck(0) == 1) return -1;
    return host(fd, parts, count);
}

#define ON_FILE(name, parameters, arguments) \
    int name parameters { REAL(int, #name); if (is_watched(fd) && struck(0) == 1) return -1; return host arguments; }
ON_FILE(fsync, (int fd), (fd))
ON_FILE(fdatasync, (int fd), (fd))
ON_FILE(ftruncate, (int fd, off_t size), (fd, size))
ON_FILE(ftruncate64, (int fd, off64_t size), (fd, size))

#define COPYING(name, parameters, arguments) \
    ssize_t name parameters { REAL(ssize_t, #name); if (is_watched(out) && struck(0) == 1) return -1; return host arguments; }
COPYING(sendfile, (int out, int in, off_t *at, size_t size), (out, in, at, size))
COPYING(sendfile64, (int out, int in, off64_t *at, size_t size), (out, in, at, size))
COPYING(copy_file_range, (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags), (in, from, out, to, size, flags))

#define ON_PATH(name, parameters, path, arguments) \
    int name parameters { REAL(int, #name); if (below(path) && struck(0) == 1) return -1; return host arguments; }
ON_PATH(rename, (const char *from, const char *to), to, (from, to))
ON_PATH(renameat, (int a, const char *from, int b, const char *to), to, (a, from, b, to))
ON_PATH(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), to, (a, from, b, to, flags))
ON_PATH(unlink, (const char *path), path, (path))
ON_PATH(unlinkat, (int at, const char *path, int flags), path, (at, path, flags))
ON_PATH(rmdir, (const char *path), path, (path))
ON_PATH(mkdir, (const char *path, mode_t mode), path, (path, mode))
ON_PATH(mkdirat, (int at, const char *path, mode_t mode), path, (at, path, mode))

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*host)(clockid_t, struct timespec *);
    if (!host) host = (int (*)(clockid_t, struct timespec *))real("clock_gettime");
    int code = host(clock, now);
    if (!code && clock == CLOCK_REALTIME) now->tv_sec += atomic_load(&shift);
    return code;
}
