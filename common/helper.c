/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The helper process and the queue in front of it. The child knows no loop: it reads a question from a
 * socket pair, may hang over it, and writes the answer. The parent keeps one deadline timer over everything
 * that waits.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/helper.h"
#include "common/loop.h"

typedef enum HelperQuestionKind {
        HELPER_QUESTION_RESOLVE,
        HELPER_QUESTION_STATVFS,
} HelperQuestionKind;

/* What crosses the socket. Both ends are the same program, so the layout is nobody else's business. */
typedef struct HelperQuestion {
        uint64_t serial;
        HelperQuestionKind kind;
        char text[HELPER_NAME_MAX];
} HelperQuestion;

typedef struct HelperReply {
        uint64_t serial;
        HelperAnswer answer;
} HelperReply;

struct HelperCall {
        Helper *helper; /* NULL once answered, or when the helper is gone */
        HelperCall *previous, *next;
        HelperDone done;
        void *userdata;
        Mono deadline;
        int error; /* already known answer, to be given when the timer fires; 0: none */
        HelperQuestionKind kind;
        char text[];
};

/* A process that has been killed but not yet reaped. */
typedef struct HelperLeftover {
        pid_t pid; /* 0: slot is free */
        int pidfd;
        sd_event_source *source;
} HelperLeftover;

struct Helper {
        sd_event *event;
        Timer *timer;

        pid_t pid; /* 0: none */
        int fd;
        sd_event_source *source;
        HelperLeftover leftovers[HELPER_STUCK_MAX];

        uint64_t serial;
        bool busy;         /* a question is under way */
        HelperCall *asked; /* the call that it is for; NULL if that was cancelled */
        Mono busy_until;

        HelperCall *first, *last; /* what waits */
        unsigned n_waiting;
};

/* The child. */

static int helper_resolve_error(int r) {
        switch (r) {
        case EAI_NONAME:
        case EAI_NODATA:
        case EAI_ADDRFAMILY: return -ENXIO;
        case EAI_MEMORY: return -ENOMEM;
        default: return -EAGAIN;
        }
}

static void helper_child_resolve(const char *host, HelperAnswer *answer) {
        static const struct addrinfo hints = {
                .ai_family = AF_UNSPEC,
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_ADDRCONFIG,
        };
        struct addrinfo *list = NULL;
        int r;

        r = getaddrinfo(host, NULL, &hints, &list);
        if (r != 0) {
                answer->error = helper_resolve_error(r);
                return;
        }
        for (struct addrinfo *i = list; i && answer->n_addresses < HELPER_ADDRESSES_MAX; i = i->ai_next) {
                const void *address;

                if (i->ai_family == AF_INET)
                        address = &((const struct sockaddr_in *) (const void *) i->ai_addr)->sin_addr;
                else if (i->ai_family == AF_INET6)
                        address = &((const struct sockaddr_in6 *) (const void *) i->ai_addr)->sin6_addr;
                else
                        continue;
                if (inet_ntop(i->ai_family, address, answer->addresses[answer->n_addresses],
                            sizeof(answer->addresses[0])))
                        answer->n_addresses++;
        }
        freeaddrinfo(list);
        if (answer->n_addresses == 0)
                answer->error = -ENXIO;
}

/*
 * Leaves nothing open but the socket, as descriptor 0: the daemon's sockets and files must end with the
 * daemon.
 */
static void helper_child_close_all(int fd) {
        int null;

        if (dup2(fd, STDIN_FILENO) < 0)
                _exit(EXIT_FAILURE);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void) dup2(null, STDOUT_FILENO);
        (void) dup2(null, STDERR_FILENO);
        if (close_range(3, ~0U, 0) < 0)
                for (int i = 3; i < 1024; i++)
                        (void) close(i);
}

static _Noreturn void helper_child_run(int fd, pid_t parent) {
        sigset_t none;

        for (int i = 1; i < NSIG; i++)
                (void) signal(i, SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        /* The daemon may have ended before the request was made, then no signal comes. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);
        helper_child_close_all(fd);
        /*
         * Locks are not inherited. Only what is touched, for most of the daemon's pages are of no use here.
         */
        (void) mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);

        for (;;) {
                HelperQuestion question;
                HelperReply reply = {};

                if (recv(STDIN_FILENO, &question, sizeof(question), 0) != (ssize_t) sizeof(question))
                        _exit(EXIT_SUCCESS);
                reply.serial = question.serial;
                if (question.kind == HELPER_QUESTION_RESOLVE)
                        helper_child_resolve(question.text, &reply.answer);
                else if (statvfs(question.text, &reply.answer.file_system) < 0)
                        reply.answer.error = -errno;
                if (send(STDIN_FILENO, &reply, sizeof(reply), MSG_NOSIGNAL) < 0)
                        _exit(EXIT_FAILURE);
        }
}

/* Processes, seen from the parent. */

static void helper_leftover_done(HelperLeftover *leftover) {
        leftover->source = sd_event_source_disable_unref(leftover->source);
        if (leftover->pidfd >= 0)
                (void) close(leftover->pidfd);
        *leftover = (HelperLeftover){ .pidfd = -1 };
}

static void helper_reap(Helper *helper) {
        for (size_t i = 0; i < HELPER_STUCK_MAX; i++) {
                HelperLeftover *leftover = &helper->leftovers[i];

                /* Anything but 0 means that it is gone, be it that somebody else has waited for it. */
                if (leftover->pid > 0 && waitpid(leftover->pid, NULL, WNOHANG) != 0)
                        helper_leftover_done(leftover);
        }
}

static int helper_on_leftover(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) source;
        (void) fd;
        (void) events;
        helper_reap(userdata);
        return 0;
}

/* Gives the process up. Its slot was free, or it would not have been started. */
static void helper_drop(Helper *helper) {
        HelperLeftover *leftover = NULL;

        helper->busy = false;
        helper->asked = NULL;
        if (helper->pid == 0)
                return;
        helper->source = sd_event_source_disable_unref(helper->source);
        (void) close(steal_fd(&helper->fd));

        for (size_t i = 0; i < HELPER_STUCK_MAX && !leftover; i++)
                if (helper->leftovers[i].pid == 0)
                        leftover = &helper->leftovers[i];
        assert(leftover);

        leftover->pid = helper->pid;
        helper->pid = 0;
        (void) kill(leftover->pid, SIGKILL);
        /*
         * The C library of 2.34 has no wrapper. Without a pidfd it is reaped when next something is asked.
         */
        leftover->pidfd = (int) syscall(SYS_pidfd_open, leftover->pid, 0);
        if (leftover->pidfd >= 0)
                (void) sd_event_add_io(helper->event, &leftover->source, leftover->pidfd, EPOLLIN,
                        helper_on_leftover, helper);
}

static int helper_on_reply(sd_event_source *source, int fd, uint32_t events, void *userdata);

static int helper_start(Helper *helper) {
        _cleanup_(closep) int ours = -1, theirs = -1;
        int pair[2], r;
        sigset_t all, old;
        pid_t parent = getpid(), pid;

        if (helper_n_stuck(helper) >= HELPER_STUCK_MAX)
                return -EBUSY;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];

        r = sd_event_add_io(helper->event, &helper->source, ours, EPOLLIN, helper_on_reply, helper);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(helper->source, "helper");

        /* No signal handler of the daemon may run in the child. */
        (void) sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, &old);
        pid = fork();
        if (pid == 0)
                helper_child_run(theirs, parent);
        r = -errno;
        (void) sigprocmask(SIG_SETMASK, &old, NULL);
        if (pid < 0) {
                helper->source = sd_event_source_disable_unref(helper->source);
                return r;
        }

        helper->pid = pid;
        helper->fd = steal_fd(&ours);
        return 0;
}

pid_t helper_pid(const Helper *helper) {
        return helper->pid;
}

unsigned helper_n_stuck(const Helper *helper) {
        unsigned n = 0;

        for (size_t i = 0; i < HELPER_STUCK_MAX; i++)
                n += helper->leftovers[i].pid > 0;
        return n;
}

/* The queue. */

static void helper_call_unlink(HelperCall *call) {
        Helper *helper = call->helper;

        *(call->previous ? &call->previous->next : &helper->first) = call->next;
        *(call->next ? &call->next->previous : &helper->last) = call->previous;
        call->previous = call->next = NULL;
        helper->n_waiting--;
}

static void helper_call_link(HelperCall *call) {
        Helper *helper = call->helper;

        call->previous = helper->last;
        *(helper->last ? &helper->last->next : &helper->first) = call;
        helper->last = call;
        helper->n_waiting++;
}

/*
 * Takes a call off the books and answers it. The last thing that a handler does, for the callback may free
 * anything.
 */
static void helper_call_answer(HelperCall *call, const HelperAnswer *answer) {
        if (!call)
                return;
        call->helper = NULL;
        call->done(answer, call->userdata);
}

static void helper_arm(Helper *helper) {
        Mono due = helper->busy ? helper->busy_until : MONO_INFINITE;

        for (HelperCall *i = helper->first; i; i = i->next)
                due = mono_min(due, i->deadline);
        (void) timer_arm(helper->timer, due);
}

/* The answer to everything that waits is known: have the timer give it. */
static void helper_fail_all(Helper *helper, int error) {
        for (HelperCall *i = helper->first; i; i = i->next)
                if (i->error == 0) {
                        i->error = error;
                        i->deadline = (Mono){ 1 };
                }
}

static int helper_ask(Helper *helper, const HelperCall *call) {
        HelperQuestion question = { .serial = ++helper->serial, .kind = call->kind };

        (void) strncpy(question.text, call->text, sizeof(question.text) - 1);
        if (send(helper->fd, &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                return -errno;
        helper->busy = true;
        helper->busy_until = call->deadline;
        return 0;
}

/* Asks the next question if there is one and nothing is under way, and sets the timer. */
static void helper_next(Helper *helper) {
        HelperCall *call = helper->first;
        int r = 0;

        while (call && call->error != 0)
                call = call->next;
        if (call && !helper->busy) {
                helper_reap(helper);
                if (helper->pid == 0)
                        r = helper_start(helper);
                if (r < 0)
                        helper_fail_all(helper, r == -EBUSY ? -EBUSY : -EAGAIN);
                else if (helper_ask(helper, call) < 0) {
                        /* It died while idle; the loop has not seen that yet. */
                        helper_drop(helper);
                        call->error = -EAGAIN;
                        call->deadline = (Mono){ 1 };
                } else {
                        helper_call_unlink(call);
                        helper->asked = call;
                }
        }
        helper_arm(helper);
}

static int helper_on_reply(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Helper *helper = userdata;
        HelperCall *call = helper->asked;
        HelperReply reply;
        ssize_t n;

        (void) source;
        (void) events;

        n = recv(fd, &reply, sizeof(reply), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n != (ssize_t) sizeof(reply) || !helper->busy || reply.serial != helper->serial) {
                /* It has died, or talks nonsense. */
                reply = (HelperReply){ .answer.error = -EAGAIN };
                helper_drop(helper);
        }
        helper->busy = false;
        helper->asked = NULL;
        helper_next(helper);
        helper_call_answer(call, &reply.answer);
        return 0;
}

/* One call at a time: the timer is armed for the next one before the callback runs. */
static void helper_on_deadline(Timer *timer, Now now, void *userdata) {
        Helper *helper = userdata;
        HelperAnswer answer = {};
        HelperCall *call = NULL;

        (void) timer;
        if (helper->busy && !mono_before(now.mono, helper->busy_until)) {
                call = helper->asked;
                answer.error = -ETIMEDOUT;
                helper_drop(helper);
        } else {
                call = helper->first;
                while (call && mono_before(now.mono, call->deadline))
                        call = call->next;
                if (call) {
                        helper_call_unlink(call);
                        answer.error = call->error != 0 ? call->error : -EBUSY;
                }
        }
        helper_next(helper);
        helper_call_answer(call, &answer);
}

static int helper_call_new(Helper *helper, HelperQuestionKind kind, const char *text, Span deadline,
        HelperDone done, void *userdata, HelperCall **ret) {
        HelperCall *call;
        size_t n = strlen(text);

        assert(done);

        if (n >= HELPER_NAME_MAX)
                return -ENAMETOOLONG;
        if (helper->n_waiting >= HELPER_QUEUE_MAX)
                return -EBUSY;
        call = calloc(1, sizeof(*call) + n + 1);
        if (!call)
                return -ENOMEM;
        call->helper = helper;
        call->kind = kind;
        call->done = done;
        call->userdata = userdata;
        call->deadline = mono_add(loop_now(helper->event).mono, deadline);
        (void) memcpy(call->text, text, n + 1);
        helper_call_link(call);
        helper_next(helper);

        *ret = call;
        return 0;
}

int helper_resolve(
        Helper *helper, const char *host, Span deadline, HelperDone done, void *userdata, HelperCall **ret) {
        return helper_call_new(helper, HELPER_QUESTION_RESOLVE, host, deadline, done, userdata, ret);
}

int helper_statvfs(
        Helper *helper, const char *path, Span deadline, HelperDone done, void *userdata, HelperCall **ret) {
        return helper_call_new(helper, HELPER_QUESTION_STATVFS, path, deadline, done, userdata, ret);
}

HelperCall *helper_call_free(HelperCall *call) {
        if (!call)
                return NULL;
        if (call->helper && call->helper->asked == call)
                /* The process is busy with it all the same, until it answers or misses the deadline. */
                call->helper->asked = NULL;
        else if (call->helper)
                helper_call_unlink(call);
        free(call);
        return NULL;
}

int helper_new(Helper **ret, sd_event *event) {
        _cleanup_(helper_freep) Helper *helper = NULL;
        int r;

        helper = calloc(1, sizeof(*helper));
        if (!helper)
                return -ENOMEM;
        helper->fd = -1;
        for (size_t i = 0; i < HELPER_STUCK_MAX; i++)
                helper->leftovers[i].pidfd = -1;
        helper->event = sd_event_ref(event);
        r = timer_new(&helper->timer, event, "helper-deadline", SPAN_MSEC(10), helper_on_deadline, helper);
        if (r < 0)
                return r;
        r = helper_start(helper);
        if (r < 0)
                return r;

        *ret = steal_ptr(helper);
        return 0;
}

Helper *helper_free(Helper *helper) {
        if (!helper)
                return NULL;
        if (helper->asked)
                helper->asked->helper = NULL;
        helper_drop(helper);
        for (HelperCall *i = helper->first; i; i = i->next)
                i->helper = NULL;
        helper_reap(helper);
        for (size_t i = 0; i < HELPER_STUCK_MAX; i++)
                helper_leftover_done(&helper->leftovers[i]);
        timer_free(helper->timer);
        sd_event_unref(helper->event);
        free(helper);
        return NULL;
}
