/* SPDX-License-Identifier: Apache-2.0 */

/* Turns: whose slot it is. */

#include "agent/decide/turn.h"

/* So many slots ahead our own is looked for. Of n peers each owns one in n; beyond this the next look asks again. */
#define TURN_AHEAD_MAX 1024

/* A mixer of 64 bits in which every bit of the input moves every bit of the output; it maps no two inputs to one. */
static uint64_t mix(uint64_t z) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

/* FNV-1a, 64 bits. */
uint64_t turn_id(const char *instance_id) {
        uint64_t hash = 0xcbf29ce484222325u;

        for (const char *p = instance_id; *p; p++)
                hash = (hash ^ (unsigned char) *p) * 0x100000001b3u;
        return hash;
}

int64_t turn_slot(Wall at, Span turn) {
        return at.usec / turn;
}

static uint64_t rank(uint64_t id, int64_t slot) {
        return mix(id ^ mix((uint64_t) slot));
}

uint64_t turn_owner(const uint64_t *peers, size_t n, uint64_t self, int64_t slot) {
        uint64_t owner = self, least = rank(self, slot);

        for (size_t i = 0; i < n; i++)
                if (rank(peers[i], slot) < least) {
                        owner = peers[i];
                        least = rank(owner, slot);
                }
        return owner;
}

static bool is_lone(const uint64_t *peers, size_t n, uint64_t self) {
        for (size_t i = 0; i < n; i++)
                if (peers[i] != self)
                        return false;
        return true;
}

Wall turn_next(const uint64_t *peers, size_t n, uint64_t self, Wall from, Span turn) {
        int64_t first = turn_slot(wall_add(from, turn - 1), turn);

        for (int64_t slot = first; slot < first + TURN_AHEAD_MAX; slot++)
                if (turn_owner(peers, n, self, slot) == self)
                        return (Wall){ slot * turn };
        return WALL_NEVER;
}

Turn turn_judge(const uint64_t *peers, size_t n, uint64_t self, Wall at, Span turn) {
        Turn is = { .state = TURN_LONE };

        if (is_lone(peers, n, self))
                return is;
        if (!wall_is_set(at) || at.usec < 0) {
                is.state = TURN_UNKNOWN;
                return is;
        }
        is.slot = turn_slot(at, turn);
        if (turn_owner(peers, n, self, is.slot) != self)
                is.state = TURN_OTHERS;
        else
                is.state = at.usec - is.slot * turn < turn / 4 ? TURN_OURS : TURN_LATE;
        is.next = turn_next(peers, n, self, (Wall){ (is.slot + 1) * turn }, turn);
        return is;
}
