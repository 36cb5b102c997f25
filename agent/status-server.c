/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both ends of the status socket. Whoever connects gets one document and the end of the stream; nothing is read from
 * clients. The text is made once per client, when it connects, and what the socket does not take at once is sent as it
 * drains, for 2 s. Who comes while 8 are being served waits in the kernel's queue.
 */

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/status.h"
#include "common/loop.h"

#define CLIENTS_MAX 8
#define CLIENT_TIME SPAN_SEC(2)
#define FETCH_TIME  SPAN_SEC(3)
#define BACKLOG     16

typedef struct Client {
        StatusServer *server;
        int fd; /* -1: free */
        sd_event_source *source;
        Timer *deadline;
        JsonWriter text;
        size_t sent;
} Client;

struct StatusServer {
        sd_event *event;
        int fd;
        sd_event_source *source;
        Timer *again;  /* accept() failed for want of something: an io source would spin */
        int directory; /* holds the socket */
        char *name;    /* in there */
        ino_t inode;   /* of our socket: a successor's is not ours to remove */
        StatusAsked asked;
        void *userdata;
        Client clients[CLIENTS_MAX];
};

/*
 * A socket's address holds 107 bytes, a path more. So the directory is opened and the socket named by way of it:
 * /proc/self/fd/N/NAME.
 */
static int address_of(const char *path, int *ret_directory, const char **ret_name, struct sockaddr_un *ret) {
        _cleanup_(freep) char *parent = NULL;
        _cleanup_(closep) int directory = -1;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        int n;

        if (!*name)
                return -EINVAL;
        parent = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
        if (!parent)
                return -ENOMEM;
        directory = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return -errno;
        n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory, name);
        if (n < 0 || (size_t) n >= sizeof(address.sun_path))
                return -ENAMETOOLONG;

        *ret = address;
        *ret_name = name;
        *ret_directory = steal_fd(&directory);
        return 0;
}

/* Clients */

static void client_end(Client *client) {
        if (client->fd < 0)
                return;
        client->source = sd_event_source_disable_unref(client->source);
        client->deadline = timer_free(client->deadline);
        json_writer_done(&client->text);
        (void) close(steal_fd(&client->fd));
        client->sent = 0;
        /* There is room again. */
        if (client->server->source)
                (void) sd_event_source_set_enabled(client->server->source, SD_EVENT_ON);
}

/* Sends what the socket takes. Return: whether it is over, one way or the other. */
static bool client_send(Client *client) {
        while (client->sent < client->text.n) {
                ssize_t n = send(client->fd, client->text.text + client->sent, client->text.n - client->sent,
                        MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno != EAGAIN;
                client->sent += (size_t) n;
        }
        return true;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Client *client = userdata;

        (void) source;
        (void) fd;
        if (revents & (EPOLLERR | EPOLLHUP) || client_send(client))
                client_end(client);
        return 0;
}

static void on_deadline(Timer *timer, Now now, void *userdata) {
        (void) timer;
        (void) now;
        client_end(userdata);
}

static int client_wait(Client *client) {
        sd_event *event = client->server->event;
        int r;

        r = sd_event_add_io(event, &client->source, client->fd, EPOLLOUT, on_client, client);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(client->source, "status-client");
        r = timer_new(
                &client->deadline, event, "status-client-deadline", SPAN_MSEC(50), on_deadline, client);
        if (r < 0)
                return r;
        return timer_arm(client->deadline, mono_add(loop_now(event).mono, CLIENT_TIME));
}

static void client_begin(Client *client, int fd) {
        StatusServer *server = client->server;

        client->fd = fd;
        client->sent = 0;
        json_writer_init(&client->text, STATUS_TEXT_MAX);
        server->asked(&client->text, server->userdata);
        json_raw(&client->text, "\n", 1);
        /* Half a document would be worse than none: the asker then says that it got no answer. */
        if (client->text.error < 0 || client_send(client) || client_wait(client) < 0)
                client_end(client);
}

/* Server */

static Client *free_client(StatusServer *server) {
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                if (server->clients[i].fd < 0)
                        return &server->clients[i];
        return NULL;
}

static void on_again(Timer *timer, Now now, void *userdata) {
        StatusServer *server = userdata;

        (void) timer;
        (void) now;
        (void) sd_event_source_set_enabled(server->source, SD_EVENT_ON);
}

static int wait_for_room(StatusServer *server) {
        (void) sd_event_source_set_enabled(server->source, SD_EVENT_OFF);
        (void) timer_arm(server->again, mono_add(loop_now(server->event).mono, SPAN_SEC(1)));
        return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        StatusServer *server = userdata;
        Client *client = free_client(server);
        int connection;

        (void) revents;
        if (client) {
                connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (connection >= 0)
                        client_begin(client, connection);
                else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        return wait_for_room(server);
        }
        if (!free_client(server))
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

/* Only a socket is taken away: what else lies there was put there by somebody for a reason. */
static int remove_old(const StatusServer *server) {
        struct stat st = {};

        if (fstatat(server->directory, server->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;
        return unlinkat(server->directory, server->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int server_listen(StatusServer *server, const char *path) {
        struct sockaddr_un address = {};
        struct stat st = {};
        const char *name = NULL;
        int r;

        r = address_of(path, &server->directory, &name, &address);
        if (r < 0)
                return r;
        server->name = name ? strdup(name) : NULL;
        if (!server->name)
                return -ENOMEM;
        r = remove_old(server);
        if (r < 0)
                return r;
        server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (server->fd < 0)
                return -errno;
        if (bind(server->fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        /* The document holds no secret, and on-call people need not be root. */
        if (fstatat(server->directory, server->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                fchmodat(server->directory, server->name, 0666, 0) < 0)
                return -errno;
        server->inode = st.st_ino;
        return listen(server->fd, BACKLOG) < 0 ? -errno : 0;
}

int status_server_new(
        StatusServer **ret, sd_event *event, const char *path, StatusAsked asked, void *userdata) {
        _cleanup_(status_server_freep) StatusServer *server = NULL;
        int r;

        server = calloc(1, sizeof(*server));
        if (!server)
                return -ENOMEM;
        server->event = sd_event_ref(event);
        server->fd = server->directory = -1;
        server->asked = asked;
        server->userdata = userdata;
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                server->clients[i] = (Client){ .server = server, .fd = -1 };

        r = server_listen(server, path);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &server->source, server->fd, EPOLLIN, on_connection, server);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(server->source, "status");
        r = timer_new(&server->again, event, "status-again", SPAN_MSEC(100), on_again, server);
        if (r < 0)
                return r;

        *ret = steal_ptr(server);
        return 0;
}

StatusServer *status_server_free(StatusServer *server) {
        struct stat st = {};

        if (!server)
                return NULL;
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                client_end(&server->clients[i]);
        server->source = sd_event_source_disable_unref(server->source);
        server->again = timer_free(server->again);
        if (server->inode != 0 && fstatat(server->directory, server->name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                st.st_ino == server->inode)
                (void) unlinkat(server->directory, server->name, 0);
        closep(&server->fd);
        closep(&server->directory);
        free(server->name);
        sd_event_unref(server->event);
        free(server);
        return NULL;
}

/* The command's side. It is no part of the daemon, so it may block, for 3 s in all. */

static int fetch_connect(const char *path, int *ret) {
        _cleanup_(closep) int fd = -1, directory = -1;
        const struct timeval patience = { .tv_sec = FETCH_TIME / SPAN_SEC(1) };
        struct sockaddr_un address = {};
        const char *name = NULL;
        int r;

        r = address_of(path, &directory, &name, &address);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* unix(7): a connect() to a full queue waits as long as a send() would. */
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;

        *ret = steal_fd(&fd);
        return 0;
}

static int fetch_wait(int fd, Mono deadline) {
        Span left = mono_since(deadline, clock_read().mono);
        struct pollfd readable = { .fd = fd, .events = POLLIN };
        int r;

        if (left <= 0)
                return -ETIMEDOUT;
        r = poll(&readable, 1, (int) (left / SPAN_MSEC(1)) + 1);
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        return r == 0 ? -ETIMEDOUT : 0;
}

int status_fetch(const char *path, char **ret, size_t *ret_n) {
        _cleanup_(closep) int fd = -1;
        _cleanup_(freep) char *text = NULL;
        const Mono deadline = mono_add(clock_read().mono, FETCH_TIME);
        size_t n = 0;
        int r;

        r = fetch_connect(path, &fd);
        if (r < 0)
                return r;
        text = malloc(STATUS_TEXT_MAX + 2); /* one byte to see that it is too much, one for the NUL */
        if (!text)
                return -ENOMEM;
        for (;;) {
                ssize_t got;

                r = fetch_wait(fd, deadline);
                if (r < 0)
                        return r;
                got = recv(fd, text + n, STATUS_TEXT_MAX + 1 - n, MSG_DONTWAIT);
                if (got < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                n += (size_t) got;
                if (n > STATUS_TEXT_MAX)
                        return -E2BIG;
        }
        if (n == 0)
                return -EBADMSG;
        text[n] = '\0';

        *ret = steal_ptr(text);
        *ret_n = n;
        return 0;
}
