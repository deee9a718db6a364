/* Stands between a process and its disk: counts its calls, lets one of them fail, and writes down all of them.
 *
 * Preloaded (LD_PRELOAD) it does nothing until `watch` is called. Then every call that opens, writes, flushes,
 * renames or makes something below a folder is counted; `fail` chooses the one that fails. What is written into
 * the log is read by disk_model.py: a header of seven numbers, a path, a second path, and the bytes.
 * Every call that is counted is noted, also one that failed: its result is below zero.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, FSYNC, RENAME, MKDIR, UNLINK, TRUNCATE, CLOSE };
enum { FILES = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int watching, log_file = -1;
static long calls, failing = -1;
static int failure, half, for_ever;
static unsigned char ours[FILES];

void watch(const char *folder, int log) {
    strncpy(root, folder, sizeof root - 1);
    root_length = strlen(root);
    calls = 0, failing = -1, log_file = log, watching = 1;
}

void fail(long call, int code, int half_way, int every_later) {
    failing = call, failure = code, half = half_way, for_ever = every_later;
}

void look_away(void) { watching = 0; }

long count(void) { return calls; }

/* The path as the log has it: absolute; a relative one is seen from `folder`. */
static const char *absolute(int folder, const char *path, char *buffer) {
    char link[64], base[PATH_MAX];
    if (path[0] == '/')
        return path;
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return path;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0)
            return path;
        base[length] = 0;
    }
    if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
        return path;
    return buffer;
}

static int below(const char *path) {
    return watching && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int known(int file) { return watching && file >= 0 && file < FILES && ours[file]; }

/* Count a call; true where it must fail, and then errno says why. */
static int must_fail(void) {
    long call = calls++;
    if (failing < 0 || call < failing || (call > failing && !for_ever))
        return 0;
    errno = failure;
    return 1;
}

static void append(const void *data, size_t size) {
    while (size) {
        long done = syscall(SYS_write, log_file, data, size);
        if (done <= 0)
            abort();
        data = (const char *)data + done, size -= done;
    }
}

static void note(int what, int64_t result, int file, int64_t at, const char *path, const char *other,
                 const void *data, size_t size) {
    int64_t head[7] = {what, result, file, at, path ? strlen(path) : 0, other ? strlen(other) : 0, size};
    int kept = errno;
    if (log_file < 0)
        return;
    append(head, sizeof head);
    if (path)
        append(path, strlen(path));
    if (other)
        append(other, strlen(other));
    append(data, size);
    errno = kept;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = absolute(folder, path, buffer);
    int file;
    if (!below(name)) {
        file = syscall(SYS_openat, folder, path, flags, mode);
        if (file >= 0 && file < FILES)
            ours[file] = 0;
        return file;
    }
    pthread_mutex_lock(&lock);
    file = must_fail() ? -1 : syscall(SYS_openat, folder, path, flags, mode);
    if (file >= 0 && file < FILES)
        ours[file] = 1;
    note(OPEN, file, file, flags, name, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return file;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENER(name)                                                                                          \
    int name(const char *path, int flags, ...) {                                                              \
        va_list more;                                                                                         \
        va_start(more, flags);                                                                                \
        mode_t mode = mode_of(flags, more);                                                                   \
        va_end(more);                                                                                         \
        return opened(AT_FDCWD, path, flags, mode);                                                           \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                                                                       \
    int name(int folder, const char *path, int flags, ...) {                                                  \
        va_list more;                                                                                         \
        va_start(more, flags);                                                                                \
        mode_t mode = mode_of(flags, more);                                                                   \
        va_end(more);                                                                                         \
        return opened(folder, path, flags, mode);                                                             \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

/* One write of ours, at a place of its own where `at` is one; after half of it where that was asked for. */
static ssize_t written(int file, const void *data, size_t size, off_t at) {
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    if (half && calls == failing && size > 1) {
        size /= 2;
        failing++, calls++;
        done = at < 0 ? syscall(SYS_write, file, data, size) : syscall(SYS_pwrite64, file, data, size, at);
    } else if (!must_fail()) {
        done = at < 0 ? syscall(SYS_write, file, data, size) : syscall(SYS_pwrite64, file, data, size, at);
    }
    off_t begin = at < 0 && done > 0 ? lseek(file, 0, SEEK_CUR) - done : at;
    note(WRITE, done, file, begin, NULL, NULL, data, done > 0 ? done : 0);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int file, const void *data, size_t size) {
    return known(file) ? written(file, data, size, -1) : syscall(SYS_write, file, data, size);
}

#define WRITER_AT(name)                                                                                       \
    ssize_t name(int file, const void *data, size_t size, off_t at) {                                         \
        return known(file) ? written(file, data, size, at) : syscall(SYS_pwrite64, file, data, size, at);     \
    }
WRITER_AT(pwrite)
WRITER_AT(pwrite64)

ssize_t writev(int file, const struct iovec *parts, int count_of_parts) {
    if (!known(file))
        return syscall(SYS_writev, file, parts, count_of_parts);
    for (int n = 0; n < count_of_parts; n++) /* a short write is allowed: the first part that holds anything */
        if (parts[n].iov_len)
            return written(file, parts[n].iov_base, parts[n].iov_len, -1);
    return 0;
}

/* A flush of ours is noted, and not done: no power fails here, and a disk would take most of the time. */
static int flushed(int file, long number) {
    if (!known(file))
        return syscall(number, file);
    pthread_mutex_lock(&lock);
    int result = must_fail() ? -1 : 0;
    note(FSYNC, result, file, 0, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int file) { return flushed(file, SYS_fsync); }
int fdatasync(int file) { return flushed(file, SYS_fdatasync); }

static int renamed(int from, const char *old, int to, const char *new, unsigned flags) {
    char one[PATH_MAX], other[PATH_MAX];
    const char *source = absolute(from, old, one), *target = absolute(to, new, other);
    if (!below(source) && !below(target))
        return syscall(SYS_renameat2, from, old, to, new, flags);
    pthread_mutex_lock(&lock);
    int result = must_fail() ? -1 : syscall(SYS_renameat2, from, old, to, new, flags);
    note(RENAME, result, -1, 0, source, target, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return renamed(from, old, to, new, flags);
}

static int made(int folder, const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = absolute(folder, path, buffer);
    if (!below(name))
        return syscall(SYS_mkdirat, folder, path, mode);
    pthread_mutex_lock(&lock);
    int result = must_fail() ? -1 : syscall(SYS_mkdirat, folder, path, mode);
    note(MKDIR, result, -1, 0, name, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return made(folder, path, mode); }

static int removed(int folder, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *name = absolute(folder, path, buffer);
    if (!below(name))
        return syscall(SYS_unlinkat, folder, path, flags);
    pthread_mutex_lock(&lock);
    int result = must_fail() ? -1 : syscall(SYS_unlinkat, folder, path, flags);
    note(UNLINK, result, -1, 0, name, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }

#define TRUNCATER(name)                                                                                       \
    int name(int file, off_t size) {                                                                          \
        if (!known(file))                                                                                     \
            return syscall(SYS_ftruncate, file, size);                                                        \
        pthread_mutex_lock(&lock);                                                                            \
        int result = must_fail() ? -1 : syscall(SYS_ftruncate, file, size);                                   \
        note(TRUNCATE, result, file, size, NULL, NULL, NULL, 0);                                              \
        pthread_mutex_unlock(&lock);                                                                          \
        return result;                                                                                        \
    }
TRUNCATER(ftruncate)
TRUNCATER(ftruncate64)

int close(int file) {
    if (known(file)) {
        pthread_mutex_lock(&lock);
        note(CLOSE, 0, file, 0, NULL, NULL, NULL, 0);
        ours[file] = 0;
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, file);
}
