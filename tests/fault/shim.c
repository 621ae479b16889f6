/* Makes the file operations of a process fail, stop short, kill it, or be written down.
 *
 * Preloaded (LD_PRELOAD), it counts the operations that change or open something below SHIM_ROOT:
 *
 *   SHIM_ROOT     a folder, without links in its path; unset, the shim does nothing
 *   SHIM_LOG      a file outside of it; gets a line "operation path" for each operation
 *   SHIM_AT       the number of the operation that something happens to, from 1
 *   SHIM_ERRNO    that operation fails with this error; 0 kills the process before it (SIGKILL)
 *   SHIM_PERSIST  if set, so do all later ones
 *   SHIM_SHORT    every read and write moves at most so many bytes
 *   SHIM_READS    if set, only reads, looks at what is there and locks count, and nothing else
 *
 * The environment is read at each operation, so a forked child can set its own.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int count = 0;

/* what counts with SHIM_READS */
static const char *const READS[] = {"read", "look", "lock", NULL};

static int is_read(const char *operation)
{
    for (int at = 0; READS[at]; at++)
        if (strcmp(operation, READS[at]) == 0)
            return 1;
    return 0;
}

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

/* the path of an open file, by /proc and without the functions replaced below */
static void path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

static void join(int folder, const char *name, char *path)
{
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            base[0] = 0;
    } else {
        path_of(folder, base);
    }
    size_t length = strlen(base);
    snprintf(path, PATH_MAX, "%s", base);
    snprintf(path + length, PATH_MAX - length, "/%s", name);
}

static void record(const char *operation, const char *path)
{
    const char *log = getenv("SHIM_LOG");
    if (!log)
        return;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %s\n", operation, path);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

/* the error that this operation is to fail with, or 0 */
static int fate(const char *operation, const char *path)
{
    const char *root = getenv("SHIM_ROOT");
    if (!root || strncmp(path, root, strlen(root)) != 0)
        return 0;
    if (is_read(operation) != (getenv("SHIM_READS") != NULL))
        return 0;
    record(operation, path);
    count++;
    long at = number("SHIM_AT", 0);
    if (count != at && !(at && count > at && getenv("SHIM_PERSIST")))
        return 0;
    int error = number("SHIM_ERRNO", 0);
    if (!error)
        syscall(SYS_kill, getpid(), SIGKILL);
    return error;
}

static int fate_of_fd(const char *operation, int fd)
{
    char path[PATH_MAX];
    path_of(fd, path);
    return fate(operation, path);
}

static int fate_at(const char *operation, int folder, const char *name)
{
    char path[PATH_MAX];
    join(folder, name, path);
    return fate(operation, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define UNLESS(doomed, call)        \
    do {                            \
        int error_ = (doomed);      \
        if (error_) {               \
            errno = error_;         \
            return -1;              \
        }                           \
        return call;                \
    } while (0)

static int open_any(int folder, const char *name, int flags, mode_t mode)
{
    UNLESS(fate_at("open", folder, name), syscall(SYS_openat, folder, name, flags, mode));
}

#define MODE(flags, last)                                       \
    mode_t mode = 0;                                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                      \
        va_list rest;                                           \
        va_start(rest, last);                                   \
        mode = va_arg(rest, mode_t);                            \
        va_end(rest);                                           \
    }

int open(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_any(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_any(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_any(folder, name, flags, mode);
}

int openat64(int folder, const char *name, int flags, ...)
{
    MODE(flags, flags)
    return open_any(folder, name, flags, mode);
}

int close(int fd)
{
    /* as on Linux, the descriptor is gone even if closing reports a failure */
    int error = fate_of_fd("close", fd);
    int result = syscall(SYS_close, fd);
    if (error) {
        errno = error;
        return -1;
    }
    return result;
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    int error = fate_of_fd("fallocate", fd);
    return error ? error : REAL(posix_fallocate)(fd, offset, size);
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    int error = fate_of_fd("fallocate", fd);
    return error ? error : REAL(posix_fallocate64)(fd, offset, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    UNLESS(fate_of_fd("fallocate", fd), syscall(SYS_fallocate, fd, mode, offset, size));
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    UNLESS(fate_of_fd("fallocate", fd), syscall(SYS_fallocate, fd, mode, offset, size));
}

static size_t shortened(int fd, size_t size)
{
    char path[PATH_MAX];
    const char *root = getenv("SHIM_ROOT");
    size_t most = number("SHIM_SHORT", LONG_MAX);
    path_of(fd, path);
    return root && strncmp(path, root, strlen(root)) == 0 && size > most ? most : size;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    UNLESS(fate_of_fd("write", fd), REAL(pwrite)(fd, data, shortened(fd, size), offset));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    UNLESS(fate_of_fd("write", fd), REAL(pwrite64)(fd, data, shortened(fd, size), offset));
}

int fsync(int fd)
{
    UNLESS(fate_of_fd("sync", fd), syscall(SYS_fsync, fd));
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
    UNLESS(fate_of_fd("writeback", fd), syscall(SYS_sync_file_range, fd, offset, size, flags));
}

int fchmod(int fd, mode_t mode)
{
    UNLESS(fate_of_fd("chmod", fd), syscall(SYS_fchmod, fd, mode));
}

int chmod(const char *name, mode_t mode)
{
    UNLESS(fate_at("chmod", AT_FDCWD, name), syscall(SYS_fchmodat, AT_FDCWD, name, mode));
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    UNLESS(fate_at("link", to, new), syscall(SYS_linkat, from, old, to, new, flags));
}

int rename(const char *old, const char *new)
{
    UNLESS(fate_at("rename", AT_FDCWD, new), REAL(rename)(old, new));
}

int renameat(int from, const char *old, int to, const char *new)
{
    UNLESS(fate_at("rename", to, new), syscall(SYS_renameat2, from, old, to, new, 0));
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    UNLESS(fate_at("rename", to, new), syscall(SYS_renameat2, from, old, to, new, flags));
}

int unlink(const char *name)
{
    UNLESS(fate_at("unlink", AT_FDCWD, name), syscall(SYS_unlinkat, AT_FDCWD, name, 0));
}

int unlinkat(int folder, const char *name, int flags)
{
    UNLESS(fate_at("unlink", folder, name), syscall(SYS_unlinkat, folder, name, flags));
}

int rmdir(const char *name)
{
    UNLESS(fate_at("unlink", AT_FDCWD, name), syscall(SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR));
}

int mkdir(const char *name, mode_t mode)
{
    UNLESS(fate_at("mkdir", AT_FDCWD, name), syscall(SYS_mkdirat, AT_FDCWD, name, mode));
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    UNLESS(fate_at("mkdir", folder, name), syscall(SYS_mkdirat, folder, name, mode));
}

ssize_t read(int fd, void *data, size_t size)
{
    UNLESS(fate_of_fd("read", fd), syscall(SYS_read, fd, data, shortened(fd, size)));
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    UNLESS(fate_of_fd("read", fd), REAL(pread)(fd, data, shortened(fd, size), offset));
}

ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    UNLESS(fate_of_fd("read", fd), REAL(pread64)(fd, data, shortened(fd, size), offset));
}

/* of several buffers only the first is filled if reads are to stop short */
static ssize_t read_vector(int fd, const struct iovec *parts, int number, off64_t offset, int flags)
{
    struct iovec first = parts[0];
    first.iov_len = shortened(fd, first.iov_len);
    if (first.iov_len < parts[0].iov_len)
        return REAL(preadv64v2)(fd, &first, 1, offset, flags);
    return REAL(preadv64v2)(fd, parts, number, offset, flags);
}

ssize_t preadv(int fd, const struct iovec *parts, int number, off_t offset)
{
    UNLESS(fate_of_fd("read", fd), read_vector(fd, parts, number, offset, 0));
}

ssize_t preadv64(int fd, const struct iovec *parts, int number, off64_t offset)
{
    UNLESS(fate_of_fd("read", fd), read_vector(fd, parts, number, offset, 0));
}

ssize_t preadv2(int fd, const struct iovec *parts, int number, off_t offset, int flags)
{
    UNLESS(fate_of_fd("read", fd), read_vector(fd, parts, number, offset, flags));
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int number, off64_t offset, int flags)
{
    UNLESS(fate_of_fd("read", fd), read_vector(fd, parts, number, offset, flags));
}

int flock(int fd, int operation)
{
    UNLESS(fate_of_fd("lock", fd), syscall(SYS_flock, fd, operation));
}

int stat(const char *name, struct stat *state)
{
    UNLESS(fate_at("look", AT_FDCWD, name), REAL(stat)(name, state));
}

int stat64(const char *name, struct stat64 *state)
{
    UNLESS(fate_at("look", AT_FDCWD, name), REAL(stat64)(name, state));
}

int lstat(const char *name, struct stat *state)
{
    UNLESS(fate_at("look", AT_FDCWD, name), REAL(lstat)(name, state));
}

int lstat64(const char *name, struct stat64 *state)
{
    UNLESS(fate_at("look", AT_FDCWD, name), REAL(lstat64)(name, state));
}

int fstat(int fd, struct stat *state)
{
    UNLESS(fate_of_fd("look", fd), REAL(fstat)(fd, state));
}

int fstat64(int fd, struct stat64 *state)
{
    UNLESS(fate_of_fd("look", fd), REAL(fstat64)(fd, state));
}

int fstatat(int folder, const char *name, struct stat *state, int flags)
{
    UNLESS(fate_at("look", folder, name), REAL(fstatat)(folder, name, state, flags));
}

int fstatat64(int folder, const char *name, struct stat64 *state, int flags)
{
    UNLESS(fate_at("look", folder, name), REAL(fstatat64)(folder, name, state, flags));
}

int fstatvfs(int fd, struct statvfs *state)
{
    UNLESS(fate_of_fd("look", fd), REAL(fstatvfs)(fd, state));
}

int fstatvfs64(int fd, struct statvfs64 *state)
{
    UNLESS(fate_of_fd("look", fd), REAL(fstatvfs64)(fd, state));
}
