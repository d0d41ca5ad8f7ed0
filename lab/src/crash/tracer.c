/* Runs a program, counts its file-changing system calls over all of its threads, and disturbs one of them.
 *
 *   tracer [-n N -a ACTION] [-p] [-s SUFFIX] PROGRAM ARGUMENT...
 *   tracer -l PROGRAM ARGUMENT...
 *
 * -n  The number of the call that ACTION happens to, from 1.
 * -a  kill (SIGKILL before the call is executed), kill-after (after it), error=ERRNO (the call is not executed and
 *     returns that), errors=ERRNO (that call and every later one), short (half of a write).
 * -p  Each call waits for a byte on standard input.
 * -s  fsync and fdatasync of files whose name ends with SUFFIX do nothing and return 0.
 * -l  Instead: flock does nothing and says that it worked, as on some network volumes. The program is not traced.
 *
 * Standard output has a line for each event: "pid PID", "call N NAME PATH", "hit N NAME PATH" where the action happens,
 * "end STATUS" as wait(2) returns it, and "hang" after a minute. The program's output goes to standard error.
 *
 * A seccomp filter stops the program at those calls only; all others run at full speed. Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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
#define NONE (-1)
#define CALL(name, fd, path) {__NR_##name, #name, fd, path}

/* The arguments that name the file: a descriptor (NONE: the working directory) and a path (NONE: the descriptor alone). */
static const struct call {
    long number;
    const char *name;
    int fd, path;
} calls[] = {
    CALL(openat, 0, 1), CALL(openat2, 0, 1),
    CALL(write, 0, NONE), CALL(pwrite64, 0, NONE),
    CALL(writev, 0, NONE), CALL(pwritev, 0, NONE), CALL(pwritev2, 0, NONE),
    CALL(copy_file_range, 2, NONE), {__NR_ioctl, "FICLONE", 0, NONE},
    CALL(fdatasync, 0, NONE), CALL(fsync, 0, NONE), CALL(syncfs, 0, NONE), CALL(sync_file_range, 0, NONE),
    CALL(rename, NONE, 0), CALL(renameat, 0, 1), CALL(renameat2, 0, 1),
    CALL(unlink, NONE, 0), CALL(unlinkat, 0, 1), CALL(rmdir, NONE, 0),
    CALL(truncate, NONE, 0), CALL(ftruncate, 0, NONE), CALL(fallocate, 0, NONE),
    CALL(chmod, NONE, 0), CALL(fchmod, 0, NONE), CALL(fchmodat, 0, 1), CALL(fchmodat2, 0, 1),
    CALL(utimensat, 0, 1), CALL(mkdir, NONE, 0), CALL(mkdirat, 0, 1),
    CALL(link, NONE, 1), CALL(linkat, 2, 3), CALL(symlink, NONE, 1), CALL(symlinkat, 1, 2),
};
#define CALLS (sizeof calls / sizeof *calls)

static void fail(const char *what) {
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* Runs the program under a filter that returns `action` for `count` of the calls. */
static void run_filtered(const struct call *first, size_t count, unsigned action, char **program) {
    struct sock_filter filter[2 * CALLS + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short n = 1;
    for (size_t i = 0; i < count; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)first[i].number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filters = {n, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters))
        fail("installing the filter");
    execv(program[0], program);
    fail(program[0]);
}

/* Copies out of the thread's memory, up to the first page that is not mapped. */
static void read_memory(pid_t thread, unsigned long long at, void *out, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", thread);
    int memory = open(name, O_RDONLY | O_CLOEXEC);
    if (memory < 0 || pread(memory, out, size, (off_t)at) < 0)
        *(char *)out = 0;
    close(memory);
}

/* Stores the path of the file that the call changes. Returns 0 if it changes none. */
static int changed_file(pid_t thread, const struct call *call, const struct user_regs_struct *r, char *path) {
    const unsigned long long arguments[] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    /* openat only where it may make a file, ioctl only where it clones one. */
    struct open_how how = {.flags = arguments[2]};
    if (call->number == __NR_openat2)
        read_memory(thread, arguments[2], &how, sizeof how);
    int opens = call->number == __NR_openat || call->number == __NR_openat2;
    if (opens && !(how.flags & O_CREAT))
        return 0;
    if (call->number == __NR_ioctl && arguments[1] != FICLONE)
        return 0;
    char name[PATH_SIZE] = "", link[64];
    if (call->path != NONE)
        read_memory(thread, arguments[call->path], name, PATH_SIZE - 1);
    if (name[0] == '/') {
        strcpy(path, name);
        return 1;
    }
    int fd = call->fd == NONE ? AT_FDCWD : (int)arguments[call->fd];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/%d/cwd" : "/proc/%d/fd/%d", thread, fd);
    ssize_t n = readlink(link, path, PATH_SIZE - 1);
    path[n < 0 ? 0 : n] = 0;
    if (name[0])
        strcat(strcat(path, "/"), name);
    /* Sockets, pipes, eventfds, terminals, standard output and error are no files of the job. */
    return call->path != NONE || (fd > 2 && path[0] == '/' && strncmp(path, "/dev/", 5));
}

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Skips the call and returns `value` to the program. */
static void skip_call(pid_t thread, struct user_regs_struct *r, long long value) {
    r->orig_rax = (unsigned long long)-1;
    r->rax = (unsigned long long)value;
    ptrace(PTRACE_SETREGS, thread, 0, r);
}

/* Comes again each second: one that arrives outside of waitpid has no effect. */
static void on_alarm(int signal) {
    (void)signal;
    alarm(1);
}

int main(int argc, char **argv) {
    const char *action = "", *no_sync = NULL;
    long chosen = 0, count = 0;
    int waits = 0, locks_lie = 0, option, go[2];
    while ((option = getopt(argc, argv, "+n:a:ps:l")) != -1) {
        switch (option) {
        case 'n': chosen = atol(optarg); break;
        case 'a': action = optarg; break;
        case 'p': waits = 1; break;
        case 's': no_sync = optarg; break;
        case 'l': locks_lie = 1; break;
        default: return 125;
        }
    }
    if (optind >= argc || pipe2(go, O_CLOEXEC))
        fail("PROGRAM ARGUMENT...");
    /* An error of number 0 is success. */
    if (locks_lie)
        run_filtered(&(struct call)CALL(flock, 0, NONE), 1, SECCOMP_RET_ERRNO | 0, argv + optind);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    char byte;
    if (!child) {
        close(go[1]);
        if (read(go[0], &byte, 1) != 1 || !freopen("/dev/null", "r", stdin) || dup2(2, 1) < 0)
            fail("starting the program");
        run_filtered(calls, CALLS, SECCOMP_RET_TRACE, argv + optind);
    }
    close(go[0]);
    const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                         PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, child, 0, options) || write(go[1], "g", 1) != 1)
        fail("PTRACE_SEIZE");
    printf("pid %d\n", child);
    const struct sigaction interrupts = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &interrupts, NULL);
    alarm(60);

    const char *number = strchr(action, '=');
    static char path[2 * PATH_SIZE + 2];
    pid_t dies_after_call = 0;
    for (;;) {
        int status;
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) {
            if (errno != EINTR)
                fail("waitpid");
            printf("hang\n");
            continue;
        }
        if (!WIFSTOPPED(status)) {
            if (thread != child)
                continue;
            printf("end %d\n", status);
            return 0;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event != PTRACE_EVENT_SECCOMP) {
            int after_call = signal == (SIGTRAP | 0x80);
            if (after_call && thread == dies_after_call)
                kill(child, SIGKILL);
            ptrace(PTRACE_CONT, thread, 0, event || after_call ? 0 : signal);
            continue;
        }
        struct user_regs_struct r;
        const struct call *call = NULL;
        if (!ptrace(PTRACE_GETREGS, thread, 0, &r))
            for (size_t c = 0; c < CALLS; c++)
                if (calls[c].number == (long)r.orig_rax)
                    call = &calls[c];
        if (!call || !changed_file(thread, call, &r, path)) {
            ptrace(PTRACE_CONT, thread, 0, 0);
            continue;
        }
        count++;
        int is_hit = chosen && (count == chosen || (count > chosen && !strncmp(action, "errors=", 7)));
        printf("%s %ld %s %s\n", is_hit ? "hit" : "call", count, call->name, path);
        while (waits && read(0, &byte, 1) < 0 && errno == EINTR)
            ;
        int is_sync = call->number == __NR_fsync || call->number == __NR_fdatasync;
        if (no_sync && is_sync && ends_with(path, no_sync)) {
            skip_call(thread, &r, 0);
        } else if (is_hit && !strcmp(action, "kill")) {
            kill(child, SIGKILL);
            continue;
        } else if (is_hit && !strcmp(action, "kill-after")) {
            dies_after_call = thread;
            ptrace(PTRACE_SYSCALL, thread, 0, 0);
            continue;
        } else if (is_hit && number) {
            skip_call(thread, &r, -atol(number + 1));
        } else if (is_hit && (call->number == __NR_pwrite64 || call->number == __NR_write) && r.rdx > 1) {
            r.rdx /= 2;
            ptrace(PTRACE_SETREGS, thread, 0, &r);
        }
        ptrace(PTRACE_CONT, thread, 0, 0);
    }
}
