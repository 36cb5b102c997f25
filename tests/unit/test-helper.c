/* SPDX-License-Identifier: Apache-2.0 */

/* The helper answers what can hang, is replaced when it does, and is never waited for. */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/helper.h"
#include "common/loop.h"
#include "tests/unit/fake-resolver.h"
#include "tests/unit/test.h"

/* A process in the kernel's D state cannot be killed. One whose SIGKILL gets lost here is as good. */
static bool kill_gets_lost;

int kill(pid_t pid, int signal) {
        return kill_gets_lost && signal == SIGKILL ? 0 : (int) syscall(SYS_kill, pid, signal);
}

typedef struct Seen {
        unsigned n;
        HelperAnswer answer;
        HelperCall *call;   /* freed in the callback if set */
        HelperCall **other; /* likewise: somebody else's */
} Seen;

static void on_answer(const HelperAnswer *answer, void *userdata) {
        Seen *seen = userdata;

        seen->n++;
        seen->answer = *answer;
        seen->call = helper_call_free(seen->call);
        if (seen->other)
                *seen->other = helper_call_free(*seen->other);
}

typedef struct Fixture {
        sd_event *event;
        Helper *helper;
} Fixture;

static Fixture fixture_open(void) {
        Fixture f = {};

        resolver_open();
        kill_gets_lost = false;
        EXPECT_EQ(sd_event_new(&f.event), 0);
        EXPECT_EQ(helper_new(&f.helper, f.event), 0);
        return f;
}

static void fixture_close(Fixture *f) {
        kill_gets_lost = false;
        f->helper = helper_free(f->helper);
        f->event = sd_event_unref(f->event);
}

/* Runs the loop until @done has become @n, for at most ten seconds. */
static void run_until(Fixture *f, const unsigned *done, unsigned n) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(10));

        while (*done < n && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(100));
        EXPECT_EQ(*done, n);
}

static void run_until_reaped(Fixture *f) {
        Mono end = mono_add(clock_read().mono, SPAN_SEC(10));

        while (helper_n_stuck(f->helper) > 0 && mono_before(clock_read().mono, end))
                (void) sd_event_run(f->event, SPAN_MSEC(10));
        EXPECT_EQ(helper_n_stuck(f->helper), 0);
}

static void test_names_resolve_or_say_why_not(void) {
        static const struct {
                const char *host;
                int error;
                unsigned n;
                const char *first;
        } cases[] = {
                { "good.test", 0, 1, "127.0.0.1" },
                { "two.test", 0, 2, "127.0.0.2" },
                { "six.test", 0, 1, "::1" },
                { "many.test", 0, HELPER_ADDRESSES_MAX, "127.0.0.1" },
                { "gone.test", -ENXIO, 0, "" },
                { "failing.test", -EAGAIN, 0, "" },
                { "", -EAGAIN, 0, "" },
        };
        Fixture f = fixture_open();

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Seen seen = {};

                EXPECT_EQ(
                        helper_resolve(f.helper, cases[i].host, SPAN_SEC(10), on_answer, &seen, &seen.call),
                        0);
                EXPECT_EQ(seen.n, 0);
                run_until(&f, &seen.n, 1);
                EXPECT_EQ(seen.answer.error, cases[i].error);
                EXPECT_EQ(seen.answer.n_addresses, cases[i].n);
                EXPECT_STR(seen.answer.addresses[0], cases[i].first);
        }
        fixture_close(&f);
}

static void test_statvfs_answers_or_gives_its_errno(void) {
        Fixture f = fixture_open();
        Seen good = {}, bad = {};

        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_SEC(10), on_answer, &good, &good.call), 0);
        EXPECT_EQ(helper_statvfs(f.helper, "/nonexistent", SPAN_SEC(10), on_answer, &bad, &bad.call), 0);
        run_until(&f, &bad.n, 1);
        EXPECT_EQ(good.n, 1);
        EXPECT_EQ(good.answer.error, 0);
        EXPECT(good.answer.file_system.f_bsize > 0);
        EXPECT_EQ(bad.answer.error, -ENOENT);
        fixture_close(&f);
}

static void test_too_long_a_name_is_refused(void) {
        Fixture f = fixture_open();
        char name[HELPER_NAME_MAX + 1] = {};
        HelperCall *call = NULL;
        Seen seen = {};

        (void) memset(name, 'a', HELPER_NAME_MAX);
        EXPECT_EQ(helper_resolve(f.helper, name, SPAN_SEC(1), on_answer, &seen, &call), -ENAMETOOLONG);
        name[HELPER_NAME_MAX - 1] = 0;
        EXPECT_EQ(helper_resolve(f.helper, name, SPAN_SEC(10), on_answer, &seen, &seen.call), 0);
        run_until(&f, &seen.n, 1);
        fixture_close(&f);
}

static void test_a_silent_resolver_is_a_timeout_and_the_helper_is_replaced(void) {
        Fixture f = fixture_open();
        Seen hung = {}, next = {};
        pid_t pid = helper_pid(f.helper);

        EXPECT(pid > 0);
        EXPECT_EQ(helper_resolve(f.helper, "silent.test", SPAN_MSEC(50), on_answer, &hung, &hung.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &next, &next.call), 0);
        run_until(&f, &hung.n, 1);
        EXPECT_EQ(hung.answer.error, -ETIMEDOUT);
        run_until(&f, &next.n, 1);
        EXPECT_EQ(next.answer.error, 0);
        EXPECT(helper_pid(f.helper) != pid);
        run_until_reaped(&f);
        EXPECT_EQ(waitpid(pid, NULL, WNOHANG), -1);
        fixture_close(&f);
}

static void test_a_question_that_was_never_asked_is_busy_not_hung(void) {
        Fixture f = fixture_open();
        Seen hung = {}, queued = {};

        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_MSEC(20), on_answer, &queued, &queued.call), 0);
        run_until(&f, &queued.n, 1);
        EXPECT_EQ(queued.answer.error, 0);

        EXPECT_EQ(helper_resolve(f.helper, "silent.test", SPAN_MSEC(200), on_answer, &hung, &hung.call), 0);
        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_MSEC(20), on_answer, &queued, &queued.call), 0);
        run_until(&f, &queued.n, 2);
        EXPECT_EQ(queued.answer.error, -EBUSY);
        run_until(&f, &hung.n, 1);
        EXPECT_EQ(hung.answer.error, -ETIMEDOUT);
        fixture_close(&f);
}

static void test_a_stopped_helper_is_a_timeout(void) {
        Fixture f = fixture_open();
        Seen seen = {};

        EXPECT_EQ(kill(helper_pid(f.helper), SIGSTOP), 0);
        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_MSEC(30), on_answer, &seen, &seen.call), 0);
        run_until(&f, &seen.n, 1);
        EXPECT_EQ(seen.answer.error, -ETIMEDOUT);
        run_until_reaped(&f);
        fixture_close(&f);
}

static void test_a_dead_helper_fails_one_question_and_is_replaced(void) {
        Fixture f = fixture_open();
        Seen seen = {};
        pid_t pid = helper_pid(f.helper);

        EXPECT_EQ(helper_resolve(f.helper, "silent.test", SPAN_SEC(10), on_answer, &seen, &seen.call), 0);
        EXPECT_EQ(kill(pid, SIGKILL), 0);
        run_until(&f, &seen.n, 1);
        EXPECT_EQ(seen.answer.error, -EAGAIN);
        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_SEC(10), on_answer, &seen, &seen.call), 0);
        run_until(&f, &seen.n, 2);
        EXPECT_EQ(seen.answer.error, 0);
        EXPECT(helper_pid(f.helper) != pid);
        fixture_close(&f);
}

static void test_helpers_that_cannot_be_killed_do_not_pile_up(void) {
        Fixture f = fixture_open();
        Seen seen = {}, waiting = {};
        unsigned n = 0;
        pid_t stuck[HELPER_STUCK_MAX];

        kill_gets_lost = true;
        for (unsigned i = 0; i < HELPER_STUCK_MAX; i++) {
                EXPECT_EQ(
                        helper_resolve(f.helper, "silent.test", SPAN_MSEC(30), on_answer, &seen, &seen.call),
                        0);
                stuck[i] = helper_pid(f.helper);
                if (i == HELPER_STUCK_MAX - 1)
                        EXPECT_EQ(helper_statvfs(
                                          f.helper, "/", SPAN_SEC(10), on_answer, &waiting, &waiting.call),
                                0);
                run_until(&f, &seen.n, ++n);
                EXPECT_EQ(seen.answer.error, -ETIMEDOUT);
                EXPECT_EQ(helper_n_stuck(f.helper), i + 1);
        }
        run_until(&f, &waiting.n, 1);
        EXPECT_EQ(waiting.answer.error, -EBUSY);
        EXPECT_EQ(helper_pid(f.helper), 0);

        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_SEC(10), on_answer, &seen, &seen.call), 0);
        run_until(&f, &seen.n, ++n);
        EXPECT_EQ(seen.answer.error, -EBUSY);

        /* One of them goes at last, and there is a helper again. */
        kill_gets_lost = false;
        EXPECT_EQ(kill(stuck[0], SIGKILL), 0);
        for (Mono end = mono_add(clock_read().mono, SPAN_SEC(10));
                helper_n_stuck(f.helper) == HELPER_STUCK_MAX && mono_before(clock_read().mono, end);)
                (void) sd_event_run(f.event, SPAN_MSEC(10));
        EXPECT_EQ(helper_statvfs(f.helper, "/", SPAN_SEC(10), on_answer, &seen, &seen.call), 0);
        run_until(&f, &seen.n, ++n);
        EXPECT_EQ(seen.answer.error, 0);
        for (unsigned i = 1; i < HELPER_STUCK_MAX; i++)
                EXPECT_EQ(kill(stuck[i], SIGKILL), 0);
        run_until_reaped(&f);
        fixture_close(&f);
}

static void test_the_queue_is_bounded_and_ordered(void) {
        Fixture f = fixture_open();
        Seen first = {}, seen[HELPER_QUEUE_MAX] = {}, over = {};

        EXPECT_EQ(helper_resolve(f.helper, "two.test", SPAN_SEC(10), on_answer, &first, &first.call), 0);
        for (unsigned i = 0; i < HELPER_QUEUE_MAX; i++)
                EXPECT_EQ(helper_resolve(
                                  f.helper, "good.test", SPAN_SEC(10), on_answer, &seen[i], &seen[i].call),
                        0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &over, &over.call), -EBUSY);
        for (unsigned i = 0; i < HELPER_QUEUE_MAX; i++) {
                EXPECT_EQ(i > 0 && seen[i].n > seen[i - 1].n, 0);
                run_until(&f, &seen[i].n, 1);
                EXPECT_EQ(seen[i].answer.error, 0);
        }
        EXPECT_EQ(first.n, 1);
        EXPECT_EQ(over.n, 0);
        fixture_close(&f);
}

static void test_a_freed_call_is_never_answered(void) {
        Fixture f = fixture_open();
        Seen asked = {}, queued = {}, last = {};

        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &asked, &asked.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &queued, &queued.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &last, &last.call), 0);
        asked.call = helper_call_free(asked.call);
        queued.call = helper_call_free(queued.call);
        run_until(&f, &last.n, 1);
        EXPECT_EQ(asked.n, 0);
        EXPECT_EQ(queued.n, 0);
        fixture_close(&f);
}

static void test_a_cancelled_question_that_hangs_still_costs_the_helper(void) {
        Fixture f = fixture_open();
        Seen hung = {}, next = {};
        pid_t pid = helper_pid(f.helper);

        EXPECT_EQ(helper_resolve(f.helper, "silent.test", SPAN_MSEC(50), on_answer, &hung, &hung.call), 0);
        hung.call = helper_call_free(hung.call);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &next, &next.call), 0);
        run_until(&f, &next.n, 1);
        EXPECT_EQ(next.answer.error, 0);
        EXPECT_EQ(hung.n, 0);
        EXPECT(helper_pid(f.helper) != pid);
        fixture_close(&f);
}

static void test_a_callback_may_free_other_calls(void) {
        Fixture f = fixture_open();
        Seen first = {}, second = {}, third = {};

        first.other = &second.call;
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &first, &first.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &second, &second.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &third, &third.call), 0);
        run_until(&f, &third.n, 1);
        EXPECT_EQ(first.n, 1);
        EXPECT_EQ(second.n, 0);
        fixture_close(&f);
}

static void test_freeing_the_helper_cancels_and_calls_outlive_it(void) {
        Fixture f = fixture_open();
        Seen asked = {}, queued = {};

        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &asked, &asked.call), 0);
        EXPECT_EQ(helper_resolve(f.helper, "good.test", SPAN_SEC(10), on_answer, &queued, &queued.call), 0);
        f.helper = helper_free(f.helper);
        while (sd_event_run(f.event, SPAN_MSEC(1)) > 0)
                ;
        EXPECT_EQ(asked.n + queued.n, 0);
        (void) helper_call_free(asked.call);
        (void) helper_call_free(queued.call);
        (void) helper_call_free(NULL);
        EXPECT(!helper_free(NULL));
        fixture_close(&f);
}

static void test_the_helper_ends_with_its_owner(void) {
        int pipe_fds[2];
        pid_t owner, helper_process = 0;
        char end;

        /* Adopt it when its parent has gone, so that its end can be waited for. */
        EXPECT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        EXPECT_EQ(pipe(pipe_fds), 0);
        owner = fork();
        if (owner == 0) {
                Fixture f = fixture_open();
                pid_t pid = helper_pid(f.helper);

                _exit(write(pipe_fds[1], &pid, sizeof(pid)) == (ssize_t) sizeof(pid) ? 0 : 1);
        }
        (void) close(pipe_fds[1]);
        EXPECT_EQ(waitpid(owner, NULL, 0), owner);
        EXPECT_EQ(read(pipe_fds[0], &helper_process, sizeof(helper_process)), sizeof(helper_process));
        /* It holds no copy of the pipe, nor does it hold the test up. */
        EXPECT_EQ(read(pipe_fds[0], &end, 1), 0);
        (void) close(pipe_fds[0]);
        EXPECT_EQ(waitpid(helper_process, NULL, 0), helper_process);
}

TEST_MAIN(TEST(test_names_resolve_or_say_why_not), TEST(test_statvfs_answers_or_gives_its_errno),
        TEST(test_too_long_a_name_is_refused),
        TEST(test_a_silent_resolver_is_a_timeout_and_the_helper_is_replaced),
        TEST(test_a_question_that_was_never_asked_is_busy_not_hung),
        TEST(test_a_stopped_helper_is_a_timeout),
        TEST(test_a_dead_helper_fails_one_question_and_is_replaced),
        TEST(test_helpers_that_cannot_be_killed_do_not_pile_up), TEST(test_the_queue_is_bounded_and_ordered),
        TEST(test_a_freed_call_is_never_answered),
        TEST(test_a_cancelled_question_that_hangs_still_costs_the_helper),
        TEST(test_a_callback_may_free_other_calls),
        TEST(test_freeing_the_helper_cancels_and_calls_outlive_it),
        TEST(test_the_helper_ends_with_its_owner))
