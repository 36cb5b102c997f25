/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The ECS agent's TCP sockets, by an unprivileged inet_diag dump with tcp_info. The agent's are those in the cgroup of
 * the introspection port's listener that go to the control-plane port, less our own.
 *
 * Counting them is not enough: keep-alive connections of the API stay ESTABLISHED when the control link is gone. So the
 * link is remembered by its cookie: when the agent's log says that it has just connected, the youngest of them is it.
 */

#include <systemd/sd-event.h>

#include "agent/decide/sample.h"
#include "common/cleanup.h"

typedef struct Sockets Sockets;

/**
 * sockets_new() - dump at once and then every @every
 * @listen_port:  the introspection port
 *
 * Hands over a sample when it differs in kind from the last (listener, link, counts, unacknowledged), and every 10 s.
 */
int sockets_new(Sockets **ret, sd_event *event, uint16_t listen_port, Span every, SampleHandler handler,
        void *userdata);
Sockets *sockets_free(Sockets *sockets);
DEFINE_CLEANUP(Sockets, sockets_free)

/** sockets_control_port() - the control plane's port, 443 until told */
void sockets_control_port(Sockets *sockets, uint16_t port);
/** sockets_connecting() - it says that it is about to connect: dump now, so that what is there already is not taken for it */
void sockets_connecting(Sockets *sockets);
/** sockets_connected() - the agent's log says that it has just connected: dump now and remember the youngest as the link */
void sockets_connected(Sockets *sockets);
