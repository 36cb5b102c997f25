/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ECS agent's sockets, by inet_diag.
 *
 * The kernel walks its whole hash of sockets for a dump, which costs more the more memory the host has
 * (measured: 0.3 ms with 24 GiB, however few sockets there are), but finds a single socket in a microsecond.
 * So a dump is made every 10 s only, and when something has changed; in between, the sockets that it found
 * are looked up one by one, in one message. What has gone is seen as soon as by a dump. TCPDIAG_GETSOCK is
 * used for the dump because it walks once for both address families; SOCK_DIAG_BY_FAMILY would walk twice.
 *
 * Which of the candidates is the link? tcp_info does not tell a socket's age, so it is the time since a dump
 * first had it that counts. When the agent says that it has just connected, the link is among the candidates
 * that are new within the last 15 s and have received something since (the answer to the upgrade);
 * keep-alive connections of the API are older, or silent. Mostly there is one. If there are more (the
 * telemetry connection is often made in the same second), all of them are marked: then the link is not known
 * while some are there, and known to be gone when all are.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/observe/sockets.h"
#include "common/loop.h"

#define SOCKETS_MAX          64          /* candidates that are followed; an agent has about five */
#define SOCKETS_DEADLINE     SPAN_SEC(2) /* for all answers of a round */
#define SOCKETS_DUMP_EVERY   SPAN_SEC(10)
#define SOCKETS_SAMPLE_EVERY SPAN_SEC(10)
#define SOCKETS_YOUNG        SPAN_SEC(15) /* the last dump was up to 10 s ago, and there is the handshake */
#define SOCKETS_BUFFER       16384        /* the kernel fits its messages to what the reader offers */
#define SOCKETS_RECEIVE_MAX  256          /* messages at a time, then the loop has its turn */

/* The kernel's numbers, from include/net/tcp_states.h; libc's clash with the header of tcp_info. */
#define SOCKETS_ESTABLISHED 1
#define SOCKETS_CLOSE_WAIT  8
#define SOCKETS_LISTEN      10
#define SOCKETS_STATES      (1 << SOCKETS_ESTABLISHED | 1 << SOCKETS_CLOSE_WAIT | 1 << SOCKETS_LISTEN)

typedef struct SocketsCandidate {
        struct inet_diag_sockid id;
        uint8_t family;
        bool own;     /* ours, not the agent's */
        bool marked;  /* is the link, or may be it */
        bool seen;    /* in this round */
        bool waiting; /* something is not acknowledged */
        Span data_age, ack_age;
        Mono first_seen;
} SocketsCandidate;

typedef enum SocketsRound {
        SOCKETS_IDLE,
        SOCKETS_DUMP,
        SOCKETS_LOOKUP,
} SocketsRound;

struct Sockets {
        sd_event *event;
        sd_event_source *source;
        Timer *timer;
        int fd; /* -1: not open */
        SampleHandler handler;
        void *userdata;
        Span every;
        uint16_t listen_port, control_port;

        SocketsRound round;
        uint32_t seq;
        unsigned n_awaited;     /* answers that have not come */
        Mono round_at, dump_at; /* start of this round, of the last whole dump (MONO_NEVER: is due) */
        int error;              /* what the kernel answered to a dump */
        bool connected;         /* the agent has said so, and no dump has ended since */
        bool connecting;        /* ... that it is about to, likewise */
        Mono connecting_at;     /* the dump that was made then: what it saw is older than the link */
        bool again; /* the dump that is under way was asked for too early, or with the wrong cgroup */

        bool listener; /* as of this round */
        bool listener_known;
        uint8_t listener_family;
        struct inet_diag_sockid listener_id;
        bool grouped;       /* the kernel gives cgroup ids */
        uint64_t cgroup;    /* of the last listener; kept while it is away */
        bool seen_listener; /* ever */
        uint32_t backlog, unread, unread_counting;

        SocketsCandidate candidates[SOCKETS_MAX];
        unsigned n_candidates;
        unsigned n_marked; /* when the link was marked; 0: it was not */

        Sample last;
        Mono last_at; /* MONO_NEVER: none yet */
};

static void sockets_round(Sockets *sockets, Mono now);

/* Own sockets. */

/*
 * Whether one of our descriptors is the socket of that inode. Read only when a new candidate has our user
 * id.
 */
static bool sockets_is_ours(uint32_t inode) {
        char name[32];
        int n_name = snprintf(name, sizeof(name), "socket:[%" PRIu32 "]", inode);
        struct dirent *entry;
        bool found = false;
        DIR *dir;

        dir = opendir("/proc/self/fd");
        if (!dir)
                return false;
        while (!found && (entry = readdir(dir))) {
                char link[sizeof(name)];
                ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));

                found = n == n_name && memcmp(link, name, (size_t) n) == 0;
        }
        (void) closedir(dir);
        return found;
}

/* What the kernel says. */

typedef struct SocketsMessage {
        const struct inet_diag_msg *msg;
        struct tcp_info info;
        bool has_info, has_cgroup;
        uint64_t cgroup;
} SocketsMessage;

static bool sockets_read_message(const struct nlmsghdr *header, SocketsMessage *ret) {
        const uint8_t *p = (const uint8_t *) header + NLMSG_HDRLEN,
                      *end = (const uint8_t *) header + header->nlmsg_len;

        *ret = (SocketsMessage){ .msg = (const void *) p };
        if ((size_t) (end - p) < sizeof(*ret->msg))
                return false;
        p += NLMSG_ALIGN(sizeof(*ret->msg));
        while (p < end && (size_t) (end - p) >= NLA_HDRLEN) {
                const struct nlattr *attribute = (const void *) p;
                size_t n = attribute->nla_len;

                if (n < NLA_HDRLEN || n > (size_t) (end - p))
                        return false;
                n -= NLA_HDRLEN;
                if (attribute->nla_type == INET_DIAG_INFO) {
                        /* Older kernels know less of it, newer ones more. */
                        memcpy(&ret->info, p + NLA_HDRLEN, n < sizeof(ret->info) ? n : sizeof(ret->info));
                        ret->has_info = n >= offsetof(struct tcp_info, tcpi_pmtu);
                } else if (attribute->nla_type == INET_DIAG_CGROUP_ID && n >= sizeof(ret->cgroup)) {
                        memcpy(&ret->cgroup, p + NLA_HDRLEN, sizeof(ret->cgroup));
                        ret->has_cgroup = true;
                }
                p += NLA_ALIGN(attribute->nla_len);
        }
        return true;
}

static void sockets_take_listener(Sockets *sockets, const SocketsMessage *message) {
        if (sockets->listener)
                return; /* one for each address family: the first will do */
        sockets->listener = true;
        sockets->backlog = message->msg->idiag_rqueue;
        if (!sockets->seen_listener || sockets->grouped != message->has_cgroup ||
                sockets->cgroup != message->cgroup)
                sockets->again = true; /* the candidates were chosen by another cgroup */
        sockets->seen_listener = true;
        sockets->grouped = message->has_cgroup;
        sockets->cgroup = message->cgroup;
        sockets->listener_family = message->msg->idiag_family;
        sockets->listener_id = message->msg->id;
}

static SocketsCandidate *sockets_find(Sockets *sockets, const struct inet_diag_msg *msg) {
        for (unsigned i = 0; i < sockets->n_candidates; i++) {
                SocketsCandidate *candidate = &sockets->candidates[i];

                if (memcmp(candidate->id.idiag_cookie, msg->id.idiag_cookie, sizeof(msg->id.idiag_cookie)) ==
                        0)
                        return candidate;
        }
        return NULL;
}

static void sockets_take_candidate(Sockets *sockets, const SocketsMessage *message) {
        const struct inet_diag_msg *msg = message->msg;
        SocketsCandidate *candidate;

        if (!sockets->seen_listener || (sockets->grouped && message->cgroup != sockets->cgroup))
                return;
        candidate = sockets_find(sockets, msg);
        if (!candidate) {
                if (sockets->round != SOCKETS_DUMP || sockets->n_candidates == SOCKETS_MAX)
                        return;
                candidate = &sockets->candidates[sockets->n_candidates++];
                *candidate = (SocketsCandidate){
                        .id = msg->id,
                        .family = msg->idiag_family,
                        .own = msg->idiag_uid == geteuid() && sockets_is_ours(msg->idiag_inode),
                        .first_seen = sockets->round_at,
                };
        }
        candidate->seen = true;
        candidate->data_age = message->has_info ? SPAN_MSEC(message->info.tcpi_last_data_recv) : -1;
        candidate->ack_age = message->has_info ? SPAN_MSEC(message->info.tcpi_last_ack_recv) : -1;
        candidate->waiting =
                message->has_info && (message->info.tcpi_unacked > 0 || message->info.tcpi_retransmits > 0 ||
                                             message->info.tcpi_probes > 0);
}

static void sockets_take(Sockets *sockets, const struct nlmsghdr *header) {
        SocketsMessage message;

        if (!sockets_read_message(header, &message))
                return;
        if (message.msg->idiag_state == SOCKETS_LISTEN) {
                if (ntohs(message.msg->id.idiag_sport) == sockets->listen_port)
                        sockets_take_listener(sockets, &message);
        } else if (message.msg->idiag_state == SOCKETS_CLOSE_WAIT) {
                /* The peer's FIN counts as one byte. */
                if (ntohs(message.msg->id.idiag_sport) == sockets->listen_port &&
                        message.msg->idiag_rqueue > 1)
                        sockets->unread_counting++;
        } else if (message.msg->idiag_state == SOCKETS_ESTABLISHED && message.msg->idiag_inode != 0) {
                if (ntohs(message.msg->id.idiag_dport) == sockets->control_port)
                        sockets_take_candidate(sockets, &message);
        }
}

/* Judging what a round has gathered. */

/* Return: how many are marked: those first seen after @since that data has come to lately. */
static unsigned sockets_mark_since(Sockets *sockets, Mono since) {
        unsigned n = 0;

        for (unsigned i = 0; i < sockets->n_candidates; i++) {
                SocketsCandidate *candidate = &sockets->candidates[i];

                candidate->marked = !candidate->own && candidate->data_age <= SOCKETS_YOUNG &&
                                    mono_before(since, candidate->first_seen);
                n += candidate->marked;
        }
        return n;
}

static void sockets_mark(Sockets *sockets) {
        Mono lately = mono_add(sockets->round_at, -SOCKETS_YOUNG - 1);
        unsigned n_all = 0, n_young;

        /* What was there when it began to connect is not it, unless we came too late to see the difference. */
        n_young = sockets_mark_since(sockets, mono_max(lately, sockets->connecting_at));
        if (n_young == 0)
                n_young = sockets_mark_since(sockets, lately);
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                n_all += !sockets->candidates[i].own;
        /* It has a link, so if it has one connection, that is it. */
        if (n_all == 1 && n_young == 0)
                for (unsigned i = 0; i < sockets->n_candidates; i++)
                        n_young += sockets->candidates[i].marked = !sockets->candidates[i].own;
        /* With a full table it may be one that we do not follow. */
        sockets->n_marked = sockets->n_candidates < SOCKETS_MAX ? n_young : 0;
        sockets->connected = false;
}

static Span sockets_younger(Span a, Span b) {
        return a < 0 ? b : b < 0 ? a : span_min(a, b);
}

static void sockets_sum_up(const Sockets *sockets, SocketsSample *ret) {
        unsigned n_marked = 0;

        *ret = (SocketsSample){
                .listener = sockets->listener,
                .backlog = sockets->backlog,
                .unread = sockets->unread,
                .data_age = -1,
                .ack_age = -1,
        };
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                n_marked += sockets->candidates[i].marked;
        ret->link_known = sockets->n_marked == 1 || (sockets->n_marked > 1 && n_marked == 0);
        ret->link_present = ret->link_known && n_marked > 0;

        for (unsigned i = 0; i < sockets->n_candidates; i++) {
                const SocketsCandidate *candidate = &sockets->candidates[i];

                if (candidate->own)
                        continue;
                ret->n_control++;
                if (ret->link_known && !candidate->marked)
                        continue;
                ret->data_age = sockets_younger(ret->data_age, candidate->data_age);
                ret->ack_age = sockets_younger(ret->ack_age, candidate->ack_age);
                ret->unacknowledged = ret->unacknowledged || candidate->waiting;
        }
}

static bool sockets_is_news(const Sample *a, const Sample *b) {
        const SocketsSample *x = &a->sockets, *y = &b->sockets;

        return a->sight != b->sight || x->listener != y->listener || x->backlog != y->backlog ||
               x->unread != y->unread || x->n_control != y->n_control || x->link_known != y->link_known ||
               x->link_present != y->link_present || x->unacknowledged != y->unacknowledged;
}

/* The last thing that a round does, for the handler may free us. */
static void sockets_hand_over(Sockets *sockets, const Sample *sample) {
        Mono now = sockets->round_at;

        if (mono_is_set(sockets->last_at) && !sockets_is_news(sample, &sockets->last) &&
                mono_since(now, sockets->last_at) < SOCKETS_SAMPLE_EVERY)
                return;
        sockets->last = *sample;
        sockets->last_at = now;
        sockets->handler(sample, sockets->userdata);
}

static void sockets_close(Sockets *sockets) {
        sockets->source = sd_event_source_disable_unref(sockets->source);
        if (sockets->fd >= 0)
                (void) close(steal_fd(&sockets->fd));
        sockets->round = SOCKETS_IDLE;
        sockets->dump_at = MONO_NEVER;
}

static Sight sockets_sight(int error) {
        switch (-error) {
        case ENOENT:
        case EAFNOSUPPORT:
        case EPROTONOSUPPORT:
        case EOPNOTSUPP: return SIGHT_ABSENT; /* a kernel without inet_diag */
        case EACCES:
        case EPERM: return SIGHT_DENIED;
        default: return SIGHT_FAILED;
        }
}

/* A closed socket is the surest way to be rid of answers that may still come. */
static void sockets_fail(Sockets *sockets, int error) {
        Sample sample = { .witness = WITNESS_SOCKETS, .sight = sockets_sight(error) };

        sockets_close(sockets);
        (void) timer_arm(sockets->timer, mono_add(sockets->round_at, sockets->every));
        sockets_hand_over(sockets, &sample);
}

static void sockets_finish_dump(Sockets *sockets) {
        unsigned n = 0;

        sockets->listener_known = sockets->listener;
        sockets->unread = sockets->unread_counting;
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                if (sockets->candidates[i].seen)
                        sockets->candidates[n++] = sockets->candidates[i];
        sockets->n_candidates = n;
        sockets->dump_at = sockets->round_at;
}

/* Whether what was looked up is all still there. If not, only a dump tells what is there instead. */
static bool sockets_looks_the_same(const Sockets *sockets) {
        if (!sockets->listener)
                return false;
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                if (!sockets->candidates[i].seen)
                        return false;
        return true;
}

static void sockets_finish(Sockets *sockets) {
        Sample sample = { .witness = WITNESS_SOCKETS, .sight = SIGHT_CLEAR };
        bool dump = sockets->round == SOCKETS_DUMP;

        sockets->round = SOCKETS_IDLE;
        if (dump && sockets->error < 0) {
                sockets_fail(sockets, sockets->error);
                return;
        }
        if (dump)
                sockets_finish_dump(sockets);
        if (sockets->again) {
                sockets->dump_at = MONO_NEVER;
                (void) timer_arm(sockets->timer, sockets->round_at);
                return;
        }
        if (!dump && !sockets_looks_the_same(sockets)) {
                sockets->dump_at = MONO_NEVER;
                sockets_round(sockets, sockets->round_at);
                return;
        }
        if (dump && sockets->connecting && !sockets->connected)
                sockets->connecting_at = sockets->round_at;
        if (dump)
                sockets->connecting = false;
        if (dump && sockets->connected)
                sockets_mark(sockets);
        (void) timer_arm(sockets->timer, mono_add(sockets->round_at, sockets->every));
        sockets_sum_up(sockets, &sample.sockets);
        sockets_hand_over(sockets, &sample);
}

/* Receiving. */

/* Return: whether the round has ended. */
static bool sockets_take_all(Sockets *sockets, const uint8_t *p, size_t n) {
        while (n >= NLMSG_HDRLEN && sockets->n_awaited > 0) {
                const struct nlmsghdr *header = (const void *) p;
                size_t length = header->nlmsg_len;

                if (length < NLMSG_HDRLEN || length > n)
                        return false;
                if (header->nlmsg_seq == sockets->seq) {
                        bool end = header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR;

                        /* Both begin with a number, 0 or negative errno. Of a lookup it says: not there. */
                        if (end && sockets->round == SOCKETS_DUMP && length >= NLMSG_LENGTH(sizeof(int)))
                                memcpy(&sockets->error, NLMSG_DATA(header), sizeof(int));
                        if (!end)
                                sockets_take(sockets, header);
                        if (end || sockets->round == SOCKETS_LOOKUP)
                                sockets->n_awaited--;
                }
                length = NLMSG_ALIGN(length);
                p += length < n ? length : n;
                n -= length < n ? length : n;
        }
        return sockets->n_awaited == 0;
}

/*
 * A round mostly ends in here, at the first call: the kernel has all answers ready by the time it is asked.
 */
static void sockets_receive(Sockets *sockets) {
        _Alignas(struct nlmsghdr) uint8_t buffer[SOCKETS_BUFFER];

        for (unsigned i = 0; i < SOCKETS_RECEIVE_MAX && sockets->round != SOCKETS_IDLE; i++) {
                struct sockaddr_nl from = {};
                socklen_t n_from = sizeof(from);
                ssize_t n = recvfrom(sockets->fd, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_TRUNC,
                        (struct sockaddr *) &from, &n_from);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < 0 || (size_t) n > sizeof(buffer)) {
                        sockets_fail(sockets, n < 0 ? -errno : -EMSGSIZE);
                        return;
                }
                if (from.nl_pid != 0)
                        continue; /* other processes can send to us; only the kernel is asked */
                if (sockets_take_all(sockets, buffer, (size_t) n)) {
                        sockets_finish(sockets);
                        return;
                }
        }
}

static int sockets_on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Sockets *sockets = userdata;

        (void) source;
        (void) fd;
        (void) events;
        if (sockets->round != SOCKETS_IDLE) {
                sockets_receive(sockets);
                return 0;
        }
        /* Nothing was asked, so this is nothing of ours. */
        (void) recv(sockets->fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC);
        return 0;
}

/* Asking. */

static int sockets_open(Sockets *sockets) {
        _cleanup_(closep) int fd = -1;
        int r;

        if (sockets->fd >= 0)
                return 0;
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
        if (fd < 0)
                return -errno;
        r = sd_event_add_io(sockets->event, &sockets->source, fd, EPOLLIN, sockets_on_io, sockets);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(sockets->source, "sockets");
        sockets->fd = steal_fd(&fd);
        return 0;
}

static int sockets_send(const Sockets *sockets, const void *request, size_t n) {
        static const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

        if (sendto(sockets->fd, request, n, MSG_DONTWAIT, (const struct sockaddr *) &kernel,
                    sizeof(kernel)) < 0)
                return -errno;
        return 0;
}

/*
 * The filter, in the kernel's byte code: a jump is taken by so many bytes, to the very end for "yes", beyond
 * it for "no". "sport == listen_port or (dport == control_port and cgroup == ours)"; without a listener so
 * far, only its first part.
 */
typedef struct SocketsFilter {
        struct nlattr attribute;
        struct inet_diag_bc_op
                sport[2]; /* a comparison with a port has the port in the .no of a second one */
        struct inet_diag_bc_op accept;
        struct inet_diag_bc_op dport[2];
        struct inet_diag_bc_op cgroup;
        uint32_t cgroup_id[2]; /* of 64 bits, without their alignment */
} SocketsFilter;

static void sockets_filter(const Sockets *sockets, SocketsFilter *ret) {
        uint16_t all; /* bytes of the parts that are used */

        if (!sockets->seen_listener)
                all = offsetof(SocketsFilter, accept) - offsetof(SocketsFilter, sport);
        else if (!sockets->grouped)
                all = offsetof(SocketsFilter, cgroup) - offsetof(SocketsFilter, sport);
        else
                all = sizeof(SocketsFilter) - offsetof(SocketsFilter, sport);

        *ret = (SocketsFilter){
                .attribute = { .nla_len = (uint16_t) (NLA_HDRLEN + all),
                        .nla_type = INET_DIAG_REQ_BYTECODE },
                .sport = { { INET_DIAG_BC_S_EQ, 8, 12 }, { .no = sockets->listen_port } },
                .accept = { INET_DIAG_BC_JMP, 4, (uint16_t) (all - 8) },
                .dport = { { INET_DIAG_BC_D_EQ, 8, (uint16_t) (all - 12 + 4) },
                        { .no = sockets->control_port } },
                .cgroup = { INET_DIAG_BC_CGROUP_COND, 12, 12 + 4 },
        };
        memcpy(ret->cgroup_id, &sockets->cgroup, sizeof(ret->cgroup_id));
}

static int sockets_ask_dump(Sockets *sockets) {
        struct {
                struct nlmsghdr header;
                struct inet_diag_req request;
                SocketsFilter filter;
        } message = {
                .header = {
                        .nlmsg_type = TCPDIAG_GETSOCK,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                        .nlmsg_seq = sockets->seq,
                },
                .request = {
                        .idiag_family = AF_INET, /* is not looked at */
                        .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                        .idiag_states = SOCKETS_STATES,
                },
        };

        static_assert(offsetof(__typeof__(message), filter) == NLMSG_LENGTH(sizeof(message.request)),
                "the attribute follows the request");
        sockets_filter(sockets, &message.filter);
        message.header.nlmsg_len =
                (uint32_t) (offsetof(__typeof__(message), filter) + message.filter.attribute.nla_len);
        sockets->n_awaited = 1;
        sockets->unread_counting = 0;
        return sockets_send(sockets, &message, message.header.nlmsg_len);
}

typedef struct SocketsQuestion {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
} SocketsQuestion;

static void sockets_question(
        const Sockets *sockets, uint8_t family, const struct inet_diag_sockid *id, SocketsQuestion *ret) {
        *ret = (SocketsQuestion) {
                .header = {
                        .nlmsg_len = sizeof(*ret),
                        .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                        .nlmsg_flags = NLM_F_REQUEST,
                        .nlmsg_seq = sockets->seq,
                },
                .request = {
                        .sdiag_family = family,
                        .sdiag_protocol = IPPROTO_TCP,
                        .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                        .idiag_states = UINT32_MAX,
                        .id = *id,
                },
        };
}

static int sockets_ask_lookup(Sockets *sockets) {
        SocketsQuestion questions[1 + SOCKETS_MAX];
        unsigned n = 0;

        sockets_question(sockets, sockets->listener_family, &sockets->listener_id, &questions[n++]);
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                sockets_question(
                        sockets, sockets->candidates[i].family, &sockets->candidates[i].id, &questions[n++]);
        sockets->n_awaited = n;
        return sockets_send(sockets, questions, n * sizeof(questions[0]));
}

static void sockets_round(Sockets *sockets, Mono now) {
        bool dump = !sockets->listener_known || !mono_is_set(sockets->dump_at) ||
                    mono_since(now, sockets->dump_at) >= SOCKETS_DUMP_EVERY;
        int r;

        sockets->round_at = now;
        r = sockets_open(sockets);
        if (r < 0) {
                sockets_fail(sockets, r);
                return;
        }
        sockets->round = dump ? SOCKETS_DUMP : SOCKETS_LOOKUP;
        sockets->seq++;
        sockets->error = 0;
        sockets->again = false;
        sockets->listener = false;
        sockets->backlog = 0;
        for (unsigned i = 0; i < sockets->n_candidates; i++)
                sockets->candidates[i].seen = false;
        (void) timer_arm(sockets->timer, mono_add(now, SOCKETS_DEADLINE));
        r = dump ? sockets_ask_dump(sockets) : sockets_ask_lookup(sockets);
        if (r < 0) {
                sockets_fail(sockets, r);
                return;
        }
        sockets_receive(sockets);
}

static void sockets_on_timer(Timer *timer, Now now, void *userdata) {
        Sockets *sockets = userdata;

        (void) timer;
        if (sockets->round != SOCKETS_IDLE) {
                sockets->round_at = now.mono;
                sockets_fail(sockets, -ETIMEDOUT);
                return;
        }
        sockets_round(sockets, now.mono);
}

/* Has a dump made as soon as the loop runs, or when the one under way has ended. */
static void sockets_soon(Sockets *sockets) {
        sockets->dump_at = MONO_NEVER;
        if (sockets->round == SOCKETS_IDLE)
                (void) timer_arm(sockets->timer, loop_now(sockets->event).mono);
        else
                sockets->again = true;
}

void sockets_control_port(Sockets *sockets, uint16_t port) {
        if (port == sockets->control_port)
                return;
        sockets->control_port = port;
        sockets->n_candidates = 0;
        sockets->n_marked = 0;
        sockets_soon(sockets);
}

void sockets_connecting(Sockets *sockets) {
        sockets->connecting = true;
        sockets_soon(sockets);
}

void sockets_connected(Sockets *sockets) {
        sockets->connected = true;
        sockets_soon(sockets);
}

int sockets_new(Sockets **ret, sd_event *event, uint16_t listen_port, Span every, SampleHandler handler,
        void *userdata) {
        _cleanup_(sockets_freep) Sockets *sockets = NULL;
        int r;

        assert(handler);

        sockets = calloc(1, sizeof(*sockets));
        if (!sockets)
                return -ENOMEM;
        sockets->fd = -1;
        sockets->event = sd_event_ref(event);
        sockets->listen_port = listen_port;
        sockets->control_port = 443;
        sockets->every = every;
        sockets->handler = handler;
        sockets->userdata = userdata;
        r = timer_new(&sockets->timer, event, "sockets", SPAN_MSEC(50), sockets_on_timer, sockets);
        if (r < 0)
                return r;
        r = timer_arm(sockets->timer, loop_now(event).mono);
        if (r < 0)
                return r;

        *ret = steal_ptr(sockets);
        return 0;
}

Sockets *sockets_free(Sockets *sockets) {
        if (!sockets)
                return NULL;
        sockets_close(sockets);
        timer_free(sockets->timer);
        sd_event_unref(sockets->event);
        free(sockets);
        return NULL;
}
