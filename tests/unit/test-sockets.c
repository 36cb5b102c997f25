/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent is played by a child, for our own connections are not counted; time is played by this file. The
 * kernel answers while it is asked, so that a round has ended when the timer's handler returns.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent/observe/sockets.h"
#include "common/loop.h"
#include "tests/unit/test.h"

/* A clock that stands still, and the one timer there is. */

static Mono fake_now;
static Timer *fake_timer;

struct Timer {
        TimerHandler handler;
        void *userdata;
        Mono at;
};

Now loop_now(sd_event *event) {
        (void) event;
        return clock_read();
}

Now clock_read(void) {
        return (Now){ .mono = fake_now, .wall = { 1 } };
}

uint64_t loop_random(void) {
        return 4;
}

int timer_new(Timer **ret, sd_event *event, const char *description, Span accuracy, TimerHandler handler,
        void *userdata) {
        (void) event;
        (void) description;
        (void) accuracy;
        *ret = fake_timer = calloc(1, sizeof(**ret));
        **ret = (Timer){ handler, userdata, MONO_INFINITE };
        return 0;
}

Timer *timer_free(Timer *timer) {
        free(timer);
        fake_timer = NULL;
        return NULL;
}

int timer_arm(Timer *timer, Mono at) {
        timer->at = at;
        return 0;
}

void timer_disarm(Timer *timer) {
        timer->at = MONO_INFINITE;
}

/* Lets @span pass in steps of what the timer is set to. */
static void fake_pass(Span span) {
        Mono until = mono_add(fake_now, span);

        while (fake_timer && !mono_before(until, fake_timer->at)) {
                Timer *timer = fake_timer;

                fake_now = mono_max(fake_now, timer->at);
                timer->at = MONO_INFINITE;
                timer->handler(timer, clock_read(), timer->userdata);
        }
        fake_now = until;
}

/*
 * The agent: a child that connects when told to. A byte is a command, the answer is a byte when it is done.
 */

typedef struct Command {
        char what; /* 'c'onnect, 's'end a byte, 'x' close */
        int which; /* socket 0 to 79 */
        uint16_t port;
        bool mapped; /* over an IPv6 socket */
} Command;

static int connect_to(uint16_t port, bool mapped) {
        struct sockaddr_in v4 = {
                .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
        };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        int fd = socket(mapped ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -1;
        (void) inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr);
        if (connect(fd, mapped ? (struct sockaddr *) &v6 : (struct sockaddr *) &v4,
                    mapped ? sizeof(v6) : sizeof(v4)) < 0) {
                (void) close(fd);
                return -1;
        }
        return fd;
}

static _Noreturn void agent_run(int fd) {
        int sockets[80];
        Command command;

        memset(sockets, -1, sizeof(sockets));
        while (recv(fd, &command, sizeof(command), 0) == (ssize_t) sizeof(command)) {
                int *s = &sockets[command.which];
                char ok = 1;

                if (command.what == 'c')
                        ok = (*s = connect_to(command.port, command.mapped)) >= 0;
                else if (command.what == 's')
                        ok = send(*s, "x", 1, MSG_NOSIGNAL) == 1;
                else
                        ok = close(*s) == 0;
                (void) send(fd, &ok, 1, 0);
        }
        _exit(0);
}

/* Servers are ours: their ends of the connections have the port on the other side. */

typedef struct Fixture {
        sd_event *event;
        Sockets *sockets;
        int listen_fd, control_fd;
        uint16_t listen_port, control_port;
        int accepted[80];
        int agent_fd;
        pid_t agent;
        unsigned n;
        Sample last;
} Fixture;

static int server_open(uint16_t *port, bool both) {
        struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
        socklen_t n = both ? sizeof(v6) : sizeof(v4);
        struct sockaddr *address = both ? (struct sockaddr *) &v6 : (struct sockaddr *) &v4;
        int fd = socket(both ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, address, n) < 0 || listen(fd, 100) < 0 || getsockname(fd, address, &n) < 0) {
                if (fd >= 0)
                        (void) close(fd);
                return -1;
        }
        *port = ntohs(both ? v6.sin6_port : v4.sin_port);
        return fd;
}

static void fixture_on_sample(const Sample *sample, void *userdata) {
        Fixture *f = userdata;

        f->n++;
        f->last = *sample;
}

static void fixture_init(Fixture *f) {
        int pair[2];

        *f = (Fixture){ .listen_fd = -1 };
        memset(f->accepted, -1, sizeof(f->accepted));
        fake_now = (Mono){ SPAN_HOUR(1) };
        f->control_fd = server_open(&f->control_port, false);
        if (f->control_fd < 0 || sd_event_new(&f->event) < 0 ||
                socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                abort();
        /* A port for the listener that comes later is taken and given back. */
        f->listen_fd = server_open(&f->listen_port, false);
        (void) close(steal_fd(&f->listen_fd));
        f->agent = fork();
        if (f->agent == 0) {
                (void) close(pair[0]);
                (void) close(f->control_fd);
                agent_run(pair[1]);
        }
        (void) close(pair[1]);
        f->agent_fd = pair[0];
}

static void fixture_listen(Fixture *f, bool both) {
        f->listen_fd = server_open(&f->listen_port, both);
        EXPECT(f->listen_fd >= 0);
}

static void fixture_start(Fixture *f) {
        EXPECT_EQ(sockets_new(&f->sockets, f->event, f->listen_port, SPAN_SEC(2), fixture_on_sample, f), 0);
        sockets_control_port(f->sockets, f->control_port);
        EXPECT_EQ(f->n, 0);
        fake_pass(0);
        EXPECT_EQ(f->n, 1);
}

static void fixture_done(Fixture *f) {
        sockets_free(f->sockets);
        sd_event_unref(f->event);
        for (size_t i = 0; i < ELEMENTSOF(f->accepted); i++)
                closep(&f->accepted[i]);
        closep(&f->listen_fd);
        closep(&f->control_fd);
        (void) close(f->agent_fd);
        (void) waitpid(f->agent, NULL, 0);
}

static void agent_do(Fixture *f, Command command) {
        char ok = 0;

        EXPECT(send(f->agent_fd, &command, sizeof(command), 0) == (ssize_t) sizeof(command));
        EXPECT(recv(f->agent_fd, &ok, 1, 0) == 1 && ok);
        if (command.what == 'c' && command.port == f->control_port)
                f->accepted[command.which] = accept4(f->control_fd, NULL, NULL, SOCK_CLOEXEC);
}

static void agent_connect(Fixture *f, int which) {
        agent_do(f, (Command){ 'c', which, f->control_port, false });
}

/*
 * Waits until the other end has seen the close, so that the connection is no longer established on either
 * side.
 */
static void agent_close(Fixture *f, int which) {
        char c;

        agent_do(f, (Command){ .what = 'x', .which = which });
        EXPECT_EQ(recv(f->accepted[which], &c, 1, 0), 0);
        closep(&f->accepted[which]);
        f->accepted[which] = -1;
}

static void test_sockets_without_a_listener_knows_nothing(void) {
        Fixture f;

        fixture_init(&f);
        agent_connect(&f, 0);
        fixture_start(&f);
        sockets_connected(f.sockets);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.last.witness, WITNESS_SOCKETS);
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT(!f.last.sockets.listener);
        EXPECT_EQ(f.last.sockets.n_control, 0);
        EXPECT(!f.last.sockets.link_known);
        EXPECT(!f.last.sockets.link_present);
        EXPECT_EQ(f.last.sockets.data_age, -1);
        fixture_done(&f);
}

static void test_sockets_counts_the_agents_connections_and_not_ours(void) {
        Fixture f;
        int own;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        agent_connect(&f, 1);
        own = connect_to(f.control_port, false);
        fixture_start(&f);
        EXPECT(f.last.sockets.listener);
        EXPECT_EQ(f.last.sockets.n_control, 2);
        EXPECT(!f.last.sockets.link_known);
        EXPECT(f.last.sockets.data_age >= 0 && f.last.sockets.data_age < SPAN_MIN(1));
        EXPECT(f.last.sockets.ack_age >= 0 && f.last.sockets.ack_age < SPAN_MIN(1));
        EXPECT(!f.last.sockets.unacknowledged);
        (void) close(own);
        fixture_done(&f);
}

static void test_sockets_tells_the_link_from_what_was_there_when_it_began_to_connect(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0); /* the API and telemetry, just as young */
        agent_connect(&f, 1);
        fixture_start(&f);
        sockets_connecting(f.sockets);
        fake_pass(SPAN_SEC(1));
        agent_connect(&f, 2);
        sockets_connected(f.sockets);
        fake_pass(SPAN_SEC(2));
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);
        EXPECT_EQ(f.last.sockets.n_control, 3);
        agent_close(&f, 2);
        fake_pass(SPAN_SEC(2));
        EXPECT(f.last.sockets.link_known && !f.last.sockets.link_present);
        EXPECT_EQ(f.last.sockets.n_control, 2);
        fixture_done(&f);
}

static void test_sockets_sees_connections_over_ipv6_sockets(void) {
        Fixture f;

        fixture_init(&f);
        f.listen_fd = server_open(&f.listen_port, true);
        if (f.listen_fd < 0) {
                printf("# no IPv6 here\n");
                fixture_done(&f);
                return;
        }
        agent_do(&f, (Command){ 'c', 0, f.control_port, true });
        fixture_start(&f);
        EXPECT(f.last.sockets.listener);
        EXPECT_EQ(f.last.sockets.n_control, 1);
        sockets_connected(f.sockets);
        fake_pass(SPAN_SEC(4)); /* by a dump, then by looking up */
        EXPECT(f.last.sockets.listener);
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);
        agent_close(&f, 0);
        fake_pass(SPAN_SEC(2));
        EXPECT(f.last.sockets.link_known && !f.last.sockets.link_present);
        fixture_done(&f);
}

static void test_sockets_sees_the_listener_come_and_go(void) {
        Fixture f;

        fixture_init(&f);
        fixture_start(&f);
        EXPECT(!f.last.sockets.listener);
        closep(&f.listen_fd);
        {
                struct sockaddr_in v4 = { .sin_family = AF_INET,
                        .sin_port = htons(f.listen_port),
                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

                f.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                EXPECT_EQ(bind(f.listen_fd, (struct sockaddr *) &v4, sizeof(v4)), 0);
                EXPECT_EQ(listen(f.listen_fd, 5), 0);
        }
        agent_connect(&f, 0);
        fake_pass(SPAN_SEC(2));
        EXPECT(f.last.sockets.listener);
        EXPECT_EQ(f.last.sockets.n_control, 1);
        closep(&f.listen_fd);
        f.listen_fd = -1;
        fake_pass(SPAN_SEC(2));
        EXPECT(!f.last.sockets.listener);
        EXPECT_EQ(f.last.sockets.n_control, 1); /* its cgroup is remembered */
        fixture_done(&f);
}

static void test_sockets_counts_connections_nobody_accepts(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        fixture_start(&f);
        EXPECT_EQ(f.last.sockets.backlog, 0);
        agent_do(&f, (Command){ 'c', 70, f.listen_port, false });
        agent_do(&f, (Command){ 'c', 71, f.listen_port, false });
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.last.sockets.backlog, 2);
        EXPECT_EQ(f.last.sockets.unread, 0);
        fixture_done(&f);
}

static void test_sockets_counts_requests_nobody_reads(void) {
        Fixture f;
        int with_data, without;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_do(&f, (Command){ 'c', 70, f.listen_port, false });
        with_data = accept(f.listen_fd, NULL, NULL);
        agent_do(&f, (Command){ 'c', 71, f.listen_port, false });
        without = accept(f.listen_fd, NULL, NULL);
        agent_do(&f, (Command){ .what = 's', .which = 70 });
        agent_do(&f, (Command){ .what = 'x', .which = 70 });
        agent_do(&f, (Command){ .what = 'x', .which = 71 });
        fixture_start(&f);
        EXPECT_EQ(f.last.sockets.unread, 1);
        (void) close(with_data);
        (void) close(without);
        fake_pass(SPAN_SEC(10));
        EXPECT_EQ(f.last.sockets.unread, 0);
        fixture_done(&f);
}

static void test_link_is_the_one_connection_that_is_young(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0); /* kept alive for the API */
        agent_connect(&f, 1);
        fixture_start(&f);
        fake_pass(SPAN_SEC(30));
        agent_connect(&f, 2);
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT_EQ(f.last.sockets.n_control, 3);
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);

        agent_close(&f, 0);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.last.sockets.n_control, 2);
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);

        agent_close(&f, 2);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.last.sockets.n_control, 1); /* which is not the link, although it is still there */
        EXPECT(f.last.sockets.link_known && !f.last.sockets.link_present);

        agent_connect(&f, 3); /* says nothing until the agent's log does */
        fake_pass(SPAN_SEC(10));
        EXPECT_EQ(f.last.sockets.n_control, 2);
        EXPECT(f.last.sockets.link_known && !f.last.sockets.link_present);
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);
        fixture_done(&f);
}

static void test_link_is_the_only_connection_however_old(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        fixture_start(&f);
        fake_pass(SPAN_MIN(5));
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT(f.last.sockets.link_known && f.last.sockets.link_present);
        fixture_done(&f);
}

static void test_link_is_not_known_among_old_connections(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        agent_connect(&f, 1);
        fixture_start(&f);
        fake_pass(SPAN_MIN(5));
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT_EQ(f.last.sockets.n_control, 2);
        EXPECT(!f.last.sockets.link_known);
        fixture_done(&f);
}

static void test_link_among_several_young_ones_is_known_when_all_have_gone(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        fixture_start(&f);
        fake_pass(SPAN_SEC(30));
        agent_connect(&f, 1); /* control, and telemetry in the same second */
        agent_connect(&f, 2);
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT_EQ(f.last.sockets.n_control, 3);
        EXPECT(!f.last.sockets.link_known);
        agent_close(&f, 1);
        fake_pass(SPAN_SEC(2));
        EXPECT(!f.last.sockets.link_known);
        agent_close(&f, 2);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.last.sockets.n_control, 1);
        EXPECT(f.last.sockets.link_known && !f.last.sockets.link_present);
        fixture_done(&f);
}

/*
 * The other end is told to put its acknowledgements off; that lasts 40 ms, so it may take more than one
 * attempt.
 */
static void test_sockets_sees_what_is_not_acknowledged(void) {
        bool seen = false;
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        fixture_start(&f);
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT(!f.last.sockets.unacknowledged);
        for (unsigned i = 0; i < 100 && !seen; i++) {
                EXPECT_EQ(setsockopt(f.accepted[0], IPPROTO_TCP, TCP_QUICKACK, &(int){ 0 }, sizeof(int)), 0);
                agent_do(&f, (Command){ .what = 's', .which = 0 });
                fake_pass(SPAN_SEC(2));
                seen = f.last.sockets.unacknowledged;
        }
        EXPECT(seen);
        EXPECT(f.last.sockets.link_present);
        fixture_done(&f);
}

static void test_sockets_follows_the_control_port(void) {
        uint16_t port = 0;
        Fixture f;
        int fd;

        fixture_init(&f);
        fixture_listen(&f, false);
        fd = server_open(&port, false);
        agent_do(&f, (Command){ 'c', 70, port, false });
        agent_connect(&f, 0);
        agent_connect(&f, 1);
        fixture_start(&f);
        EXPECT_EQ(f.last.sockets.n_control, 2);
        sockets_control_port(f.sockets, port);
        sockets_connected(f.sockets);
        fake_pass(0);
        EXPECT_EQ(f.last.sockets.n_control, 1);
        EXPECT(f.last.sockets.link_present);
        (void) close(fd);
        fixture_done(&f);
}

static void test_sockets_hands_over_news_at_once_and_the_rest_every_ten_seconds(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        agent_connect(&f, 0);
        fixture_start(&f);
        fake_pass(SPAN_SEC(8));
        EXPECT_EQ(f.n, 1);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.n, 2);
        fake_pass(SPAN_SEC(10));
        EXPECT_EQ(f.n, 3);
        agent_close(&f, 0);
        fake_pass(SPAN_SEC(2));
        EXPECT_EQ(f.n, 4);
        EXPECT_EQ(f.last.sockets.n_control, 0);
        fixture_done(&f);
}

static void test_link_is_not_known_when_there_are_too_many(void) {
        Fixture f;

        fixture_init(&f);
        fixture_listen(&f, false);
        for (int i = 0; i < 65; i++)
                agent_connect(&f, i);
        fixture_start(&f);
        sockets_connected(f.sockets);
        fake_pass(SPAN_SEC(4));
        EXPECT_EQ(f.last.sight, SIGHT_CLEAR);
        EXPECT_EQ(f.last.sockets.n_control, 64);
        EXPECT(!f.last.sockets.link_known);
        fixture_done(&f);
}

TEST_MAIN(TEST(test_sockets_without_a_listener_knows_nothing),
        TEST(test_sockets_counts_the_agents_connections_and_not_ours),
        TEST(test_sockets_tells_the_link_from_what_was_there_when_it_began_to_connect),
        TEST(test_sockets_sees_connections_over_ipv6_sockets),
        TEST(test_sockets_sees_the_listener_come_and_go),
        TEST(test_sockets_counts_connections_nobody_accepts),
        TEST(test_sockets_counts_requests_nobody_reads), TEST(test_link_is_the_one_connection_that_is_young),
        TEST(test_link_is_the_only_connection_however_old),
        TEST(test_link_is_not_known_among_old_connections),
        TEST(test_link_among_several_young_ones_is_known_when_all_have_gone),
        TEST(test_sockets_sees_what_is_not_acknowledged), TEST(test_sockets_follows_the_control_port),
        TEST(test_sockets_hands_over_news_at_once_and_the_rest_every_ten_seconds),
        TEST(test_link_is_not_known_when_there_are_too_many))
