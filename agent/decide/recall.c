/* SPDX-License-Identifier: Apache-2.0 */

/* What earlier looks have seen of the sick. */

#include "agent/decide/recall.h"

#include <stddef.h>

static bool is_among(const uint64_t *ids, uint32_t n, uint64_t id) {
        for (uint32_t i = 0; i < n; i++)
                if (ids[i] == id)
                        return true;
        return false;
}

static bool is_used(const RecallPeer *peer) {
        return mono_is_set(peer->sick);
}

static RecallPeer *peer_find(Recall *recall, uint64_t id) {
        for (unsigned i = 0; i < RECALL_PEERS_MAX; i++)
                if (is_used(&recall->peers[i]) && recall->peers[i].id == id)
                        return &recall->peers[i];
        return NULL;
}

/* A free place, or that of the one not seen sick for longest. One that was removed keeps its own: where these fill the
 * memory, their number exceeds every budget. NULL: there is none. */
static RecallPeer *peer_place(Recall *recall) {
        RecallPeer *oldest = NULL;

        for (unsigned i = 0; i < RECALL_PEERS_MAX; i++) {
                RecallPeer *peer = &recall->peers[i];

                if (!is_used(peer))
                        return peer;
                if (!mono_is_set(peer->removed) && (!oldest || mono_before(peer->sick, oldest->sick)))
                        oldest = peer;
        }
        return oldest;
}

static void forget_old(Recall *recall, Span window, Mono now) {
        for (unsigned i = 0; i < RECALL_PEERS_MAX; i++) {
                RecallPeer *peer = &recall->peers[i];

                if (mono_since(now, mono_max(peer->sick, peer->removed)) >= window)
                        *peer = (RecallPeer){};
        }
}

/* Those that the look should have shown again, and has not. Seen sick but once, it was a passing reconnect. */
static void note_returns(Recall *recall, Mono now) {
        for (unsigned i = 0; i < RECALL_PEERS_MAX; i++) {
                RecallPeer *peer = &recall->peers[i];

                if (!is_used(peer) || mono_is_set(peer->removed) || !mono_is_set(peer->since) ||
                        !mono_before(peer->sick, now))
                        continue;
                if (mono_before(peer->since, peer->sick))
                        recall->returned = now;
                peer->since = MONO_NEVER;
        }
}

void recall_take(Recall *recall, const Look *look, Span window, Mono now) {
        forget_old(recall, window, now);
        for (uint32_t i = 0; i < look->n_sick && i < LOOK_SICK_MAX; i++) {
                RecallPeer *peer;
                Mono since = now;

                if (look->sick[i] == look->self && !look->of_peer)
                        continue;
                peer = peer_find(recall, look->sick[i]);
                if (peer && mono_is_set(peer->since) && !mono_is_set(peer->removed))
                        since = peer->since;
                if (!peer)
                        peer = peer_place(recall);
                /* One that is back in service was attached again: its removal is in the activities. */
                if (peer)
                        *peer = (RecallPeer){ .id = look->sick[i],
                                .since = since,
                                .sick = now,
                                .ours = i < look->n_sick_ours };
        }
        for (uint32_t i = 0; i < look->n_outside && i < LOOK_SICK_MAX; i++) {
                RecallPeer *peer = peer_find(recall, look->outside[i]);

                if (peer && !mono_is_set(peer->removed))
                        peer->removed = now;
        }
        if (!look->more_than_a_page)
                note_returns(recall, now);
}

Remembered recall_removals(const Recall *recall, const Look *look, Span window, Mono now) {
        Remembered is = { .frees = MONO_NEVER };

        for (unsigned i = 0; i < RECALL_PEERS_MAX; i++) {
                const RecallPeer *peer = &recall->peers[i];
                Mono frees = mono_add(peer->removed, window);
                bool group = peer->ours && !is_among(look->removed, look->n_removed_ours, peer->id);
                bool cluster = !is_among(look->removed, look->n_removed, peer->id);

                if (!mono_is_set(peer->removed) || !mono_before(now, frees) || (!group && !cluster) ||
                        peer->id == look->self)
                        continue;
                is.group += group;
                is.cluster += cluster;
                if (!mono_is_set(is.frees) || mono_before(frees, is.frees))
                        is.frees = frees;
        }
        return is;
}
