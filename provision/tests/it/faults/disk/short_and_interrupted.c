/* Each read and write of a regular file transfers half of the requested bytes, and every third call is interrupted
 * before it begins. No byte is lost: the caller has to continue where the call ended. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_ulong calls;

static int interrupted(int fd, size_t *n)
{
    struct stat found;
    int saved = errno, is_file = fstat(fd, &found) == 0 && S_ISREG(found.st_mode);

    errno = saved;
    if (!is_file)
        return 0;
    if (atomic_fetch_add(&calls, 1) % 3 == 2) {
        errno = EINTR;
        return 1;
    }
    *n = *n > 1 ? *n / 2 : *n;
    return 0;
}

#define WRAP(name, parameters, arguments)                                       \
    ssize_t name parameters                                                     \
    {                                                                           \
        static ssize_t(*real) parameters;                                       \
        if (!real)                                                              \
            real = (ssize_t(*) parameters) dlsym(RTLD_NEXT, #name);             \
        return interrupted(fd, &n) ? -1 : real arguments;                       \
    }

WRAP(read, (int fd, void *to, size_t n), (fd, to, n))
WRAP(pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
WRAP(write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP(pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))

/* The test reads this to know that the shim was loaded. */
__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("SHIM_LOG");
    FILE *log = path ? fopen(path, "w") : NULL;

    if (log) {
        fprintf(log, "%lu\n", calls);
        fclose(log);
    }
}
