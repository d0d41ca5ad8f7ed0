/* Runs a program and strikes at one of its file-changing system calls, counted over all of its threads.
 *
 *   tracer --output FILE [--strike N --do ACTION] [--pause] [--no-sync SUFFIX] -- PROGRAM ARGUMENT...
 *
 * ACTION: kill (SIGKILL before the call is executed), kill-after (after it), error=ERRNO (the call is not executed and
 * returns that), errors=ERRNO (that call and every later one), short (half of a write). With --pause the call waits until
 * a byte comes on standard input. --no-sync: fsync and fdatasync of files whose name ends so return 0 and do nothing.
 *
 * Standard output, a line each: "pid PID", "call N NAME WHAT", "struck N NAME WHAT", "exit CODE" or "signal NUMBER".
 * What the program itself says goes to FILE.
 *
 * A seccomp filter stops the program at those calls only; all others run at full speed. Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "the tracer knows the registers of x86-64 only"
#endif

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#define PATH_SIZE 4096

/* How a call's arguments say which file it is about. */
enum about { FD, AT, AT_SECOND, PATH, PATH_SECOND, WRITE, OPEN };

static const struct call {
    long number;
    const char *name;
    enum about about;
    /* The argument that has the descriptor, or the path where there is none. */
    int at;
} calls[] = {
    {__NR_openat, "openat", OPEN, 0},
    {__NR_openat2, "openat2", OPEN, 0},
    {__NR_pwrite64, "pwrite64", WRITE, 0},
    {__NR_write, "write", WRITE, 0},
    {__NR_writev, "writev", WRITE, 0},
    {__NR_pwritev, "pwritev", WRITE, 0},
    {__NR_pwritev2, "pwritev2", WRITE, 0},
    {__NR_fdatasync, "fdatasync", FD, 0},
    {__NR_fsync, "fsync", FD, 0},
    {__NR_sync_file_range, "sync_file_range", FD, 0},
    {__NR_syncfs, "syncfs", FD, 0},
    {__NR_rename, "rename", PATH, 0},
    {__NR_renameat, "renameat", AT, 0},
    {__NR_renameat2, "renameat2", AT, 0},
    {__NR_unlink, "unlink", PATH, 0},
    {__NR_rmdir, "rmdir", PATH, 0},
    {__NR_unlinkat, "unlinkat", AT, 0},
    {__NR_ftruncate, "ftruncate", FD, 0},
    {__NR_truncate, "truncate", PATH, 0},
    {__NR_fallocate, "fallocate", FD, 0},
    {__NR_chmod, "chmod", PATH, 0},
    {__NR_fchmod, "fchmod", FD, 0},
    {__NR_fchmodat, "fchmodat", AT, 0},
    {__NR_fchmodat2, "fchmodat2", AT, 0},
    {__NR_utimensat, "utimensat", AT, 0},
    {__NR_mkdir, "mkdir", PATH, 0},
    {__NR_mkdirat, "mkdirat", AT, 0},
    {__NR_link, "link", PATH_SECOND, 0},
    {__NR_linkat, "linkat", AT_SECOND, 2},
    {__NR_symlink, "symlink", PATH_SECOND, 0},
    {__NR_symlinkat, "symlinkat", AT_SECOND, 1},
    {__NR_copy_file_range, "copy_file_range", FD, 2},
    {__NR_ioctl, "FICLONE", FD, 0},
};
#define CALLS (sizeof calls / sizeof *calls)

static void fail(const char *what) {
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(125);
}

static void install_filter(void) {
    struct sock_filter filter[2 * CALLS + 16];
    unsigned short n = 0;
    const unsigned nr = offsetof(struct seccomp_data, nr);
    const unsigned arch = offsetof(struct seccomp_data, arch);
#define ARG(i) (unsigned)(offsetof(struct seccomp_data, args) + 8 * (i))
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arch);
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, nr);
    /* openat only where it may make a file, ioctl only where it clones one. */
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 4);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(2));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 4);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG(1));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)FICLONE, 0, 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < CALLS; i++) {
        if (calls[i].number == __NR_openat || calls[i].number == __NR_ioctl)
            continue;
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("installing the filter");
}

/* What a descriptor of the thread is open on. */
static void name_of(pid_t thread, int fd, char *out) {
    char link[64];
    if (fd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%d/cwd", thread);
    else
        snprintf(link, sizeof link, "/proc/%d/fd/%d", thread, fd);
    ssize_t n = readlink(link, out, PATH_SIZE - 1);
    out[n < 0 ? 0 : n] = 0;
}

/* Copies out of the thread's memory, as far as it goes. */
static size_t read_memory(pid_t thread, unsigned long long at, void *out, size_t size) {
    size_t done = 0;
    while (done < size) {
        size_t step = 4096 - (at + done) % 4096;
        if (step > size - done)
            step = size - done;
        struct iovec here = {(char *)out + done, step}, there = {(void *)(at + done), step};
        if (process_vm_readv(thread, &here, 1, &there, 1, 0) != (ssize_t)step)
            break;
        if (memchr((char *)out + done, 0, step) && size == PATH_SIZE)
            return size;
        done += step;
    }
    return done;
}

static void join(pid_t thread, int fd, unsigned long long path, char *out) {
    char text[PATH_SIZE] = "";
    if (path)
        read_memory(thread, path, text, PATH_SIZE);
    text[PATH_SIZE - 1] = 0;
    if (text[0] == '/') {
        strcpy(out, text);
        return;
    }
    name_of(thread, fd, out);
    size_t n = strlen(out);
    if (text[0] && n + 1 < 2 * PATH_SIZE) {
        out[n] = '/';
        strcpy(out + n + 1, text);
    }
}

static unsigned long long argument(const struct user_regs_struct *r, int i) {
    const unsigned long long all[] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    return all[i];
}

/* Whether the call changes a file, and which. */
static int describe(pid_t thread, const struct call *call, const struct user_regs_struct *r, char *what) {
    what[0] = 0;
    switch (call->about) {
    case FD:
        name_of(thread, (int)argument(r, call->at), what);
        return 1;
    case WRITE:
        name_of(thread, (int)argument(r, 0), what);
        /* Sockets, pipes, eventfds and terminals are none. */
        return what[0] == '/' && strncmp(what, "/dev/", 5) && (int)argument(r, 0) > 2;
    case OPEN:
        if (call->number == __NR_openat2) {
            struct open_how how = {0};
            read_memory(thread, argument(r, 2), &how, sizeof how);
            if (!(how.flags & O_CREAT))
                return 0;
        }
        join(thread, (int)argument(r, 0), argument(r, 1), what);
        return 1;
    case AT:
        join(thread, (int)argument(r, call->at), argument(r, call->at + 1), what);
        return 1;
    case AT_SECOND:
        join(thread, (int)argument(r, call->at), argument(r, call->at + 1), what);
        return 1;
    case PATH:
        join(thread, AT_FDCWD, argument(r, call->at), what);
        return 1;
    case PATH_SECOND:
        join(thread, AT_FDCWD, argument(r, 1), what);
        return 1;
    }
    return 0;
}

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Returns `value` to the program, and does not execute the call. */
static void answer(pid_t thread, struct user_regs_struct *r, long long value) {
    r->orig_rax = (unsigned long long)-1;
    r->rax = (unsigned long long)value;
    ptrace(PTRACE_SETREGS, thread, 0, r);
}

int main(int argc, char **argv) {
    const char *output = NULL, *action = "", *no_sync = NULL;
    long strike = 0;
    int pause_each = 0, i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--pause"))
            pause_each = 1;
        else if (i + 1 < argc && !strcmp(argv[i], "--output"))
            output = argv[++i];
        else if (i + 1 < argc && !strcmp(argv[i], "--strike"))
            strike = atol(argv[++i]);
        else if (i + 1 < argc && !strcmp(argv[i], "--do"))
            action = argv[++i];
        else if (i + 1 < argc && !strcmp(argv[i], "--no-sync"))
            no_sync = argv[++i];
        else {
            fprintf(stderr, "tracer: what is %s?\n", argv[i]);
            return 125;
        }
    }
    if (i + 1 >= argc || !output) {
        fprintf(stderr, "tracer: --output FILE [...] -- PROGRAM ARGUMENT...\n");
        return 125;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int gate[2];
    if (pipe2(gate, O_CLOEXEC))
        fail("pipe");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (!child) {
        char byte;
        close(gate[1]);
        if (read(gate[0], &byte, 1) != 1)
            _exit(125);
        int null = open("/dev/null", O_RDONLY), out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (null < 0 || out < 0)
            fail(output);
        dup2(null, 0);
        dup2(out, 1);
        dup2(out, 2);
        if (null > 2)
            close(null);
        if (out > 2)
            close(out);
        install_filter();
        execv(argv[i + 1], argv + i + 1);
        fail(argv[i + 1]);
    }
    close(gate[0]);
    const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                         PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, child, 0, options))
        fail("PTRACE_SEIZE");
    if (write(gate[1], "g", 1) != 1)
        fail("starting it");
    printf("pid %d\n", child);

    long count = 0;
    static char what[2 * PATH_SIZE + 2];
    pid_t waits_to_die = 0;
    for (;;) {
        int status;
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) {
            if (errno == EINTR)
                continue;
            fail("waitpid");
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread != child)
                continue;
            if (WIFEXITED(status))
                printf("exit %d\n", WEXITSTATUS(status));
            else
                printf("signal %d\n", WTERMSIG(status));
            return 0;
        }
        if (!WIFSTOPPED(status))
            continue;
        int signal = WSTOPSIG(status), event = status >> 16;
        if (signal == (SIGTRAP | 0x80)) {
            if (thread == waits_to_die) {
                kill(child, SIGKILL);
                waits_to_die = 0;
            }
            ptrace(PTRACE_CONT, thread, 0, 0);
            continue;
        }
        if (event == PTRACE_EVENT_STOP) {
            int is_group_stop = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
            ptrace(is_group_stop ? PTRACE_LISTEN : PTRACE_CONT, thread, 0, 0);
            continue;
        }
        if (event != PTRACE_EVENT_SECCOMP) {
            ptrace(PTRACE_CONT, thread, 0, event ? 0 : signal);
            continue;
        }
        struct user_regs_struct r;
        const struct call *call = NULL;
        if (!ptrace(PTRACE_GETREGS, thread, 0, &r))
            for (size_t c = 0; c < CALLS; c++)
                if (calls[c].number == (long)r.orig_rax)
                    call = &calls[c];
        if (!call || !describe(thread, call, &r, what)) {
            ptrace(PTRACE_CONT, thread, 0, 0);
            continue;
        }
        count++;
        int strikes = strike && (count == strike || (count > strike && !strncmp(action, "errors=", 7)));
        printf("%s %ld %s %s\n", strikes ? "struck" : "call", count, call->name, what);
        if (pause_each) {
            char byte;
            while (read(0, &byte, 1) < 0 && errno == EINTR) {
            }
        }
        int is_sync = call->number == __NR_fsync || call->number == __NR_fdatasync;
        if (no_sync && is_sync && ends_with(what, no_sync)) {
            answer(thread, &r, 0);
        } else if (strikes && !strcmp(action, "kill")) {
            kill(child, SIGKILL);
            continue;
        } else if (strikes && !strcmp(action, "kill-after")) {
            waits_to_die = thread;
            ptrace(PTRACE_SYSCALL, thread, 0, 0);
            continue;
        } else if (strikes && !strncmp(action, "error", 5) && strchr(action, '=')) {
            answer(thread, &r, -atol(strchr(action, '=') + 1));
        } else if (strikes && !strcmp(action, "short")) {
            if ((call->number == __NR_pwrite64 || call->number == __NR_write) && r.rdx > 1) {
                r.rdx /= 2;
                ptrace(PTRACE_SETREGS, thread, 0, &r);
            }
        }
        ptrace(PTRACE_CONT, thread, 0, 0);
    }
}
