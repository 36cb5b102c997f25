/* SPDX-License-Identifier: Apache-2.0 */

/* The one table that says what follows what. A pair that is not listed stays put and does nothing. */

#include "agent/decide/remedy.h"

#define TO(stage, effect)                                                                                   \
        { true, (stage), (effect) }

/* clang-format off */
static const Transition transitions[STAGE_N][SIGNAL_N] = {
        [STAGE_WATCHING] = {
                [SIGNAL_ILL]       = TO(STAGE_GRACE,      EFFECT_NONE),
                /* Frozen, we were removed by a peer that patrols. */
                [SIGNAL_OUT]       = TO(STAGE_REMOVED,    EFFECT_NONE),
        },
        [STAGE_GRACE] = {
                [SIGNAL_WELL]      = TO(STAGE_WATCHING,   EFFECT_FORGET),
                [SIGNAL_CONNECTED] = TO(STAGE_WATCHING,   EFFECT_NONE),
                [SIGNAL_BRAKED]    = TO(STAGE_HELD,       EFFECT_NONE),
                [SIGNAL_RIPE]      = TO(STAGE_LOOKING,    EFFECT_LOOK),
        },
        [STAGE_LOOKING] = {
                [SIGNAL_WELL]      = TO(STAGE_WATCHING,   EFFECT_FORGET),
                [SIGNAL_CONNECTED] = TO(STAGE_WATCHING,   EFFECT_NONE),
                [SIGNAL_BRAKED]    = TO(STAGE_HELD,       EFFECT_NONE),
                [SIGNAL_LOST]      = TO(STAGE_HELD,       EFFECT_FORGET),
                [SIGNAL_REPAIR]    = TO(STAGE_REPAIRING,  EFFECT_REPAIR),
                [SIGNAL_FIRST]     = TO(STAGE_TURN,       EFFECT_PROBE),
                [SIGNAL_QUEUED]    = TO(STAGE_TURN,       EFFECT_NONE),
                [SIGNAL_CLEAR]     = TO(STAGE_DRAINING,   EFFECT_DRAIN),
        },
        [STAGE_HELD] = {
                [SIGNAL_WELL]      = TO(STAGE_WATCHING,   EFFECT_FORGET),
                [SIGNAL_BRAKED]    = TO(STAGE_HELD,       EFFECT_NONE),
                [SIGNAL_DUE]       = TO(STAGE_LOOKING,    EFFECT_LOOK),
        },
        [STAGE_REPAIRING] = {
                [SIGNAL_WELL]      = TO(STAGE_WATCHING,   EFFECT_FORGET),
                [SIGNAL_FAILED]    = TO(STAGE_TURN,       EFFECT_PROBE),
                [SIGNAL_LOST]      = TO(STAGE_TURN,       EFFECT_PROBE),
                [SIGNAL_DUE]       = TO(STAGE_LOOKING,    EFFECT_LOOK),
        },
        [STAGE_TURN] = {
                [SIGNAL_WELL]      = TO(STAGE_WATCHING,   EFFECT_FORGET),
                [SIGNAL_DUE]       = TO(STAGE_LOOKING,    EFFECT_LOOK),
        },
        /* From here on something of ours may stand at ECS: every way out of the path leads through its undoing. */
        [STAGE_DRAINING] = {
                [SIGNAL_DONE]      = TO(STAGE_RECHECKING, EFFECT_LOOK),
                [SIGNAL_FAILED]    = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_LOST]      = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
        },
        [STAGE_RECHECKING] = {
                [SIGNAL_WELL]      = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_CONNECTED] = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_BRAKED]    = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_LOST]      = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_UNDRAINED] = TO(STAGE_DRAINING,   EFFECT_DRAIN),
                [SIGNAL_CLEAR]     = TO(STAGE_DETACHING,  EFFECT_DETACH),
                [SIGNAL_DUE]       = TO(STAGE_RECHECKING, EFFECT_LOOK),
        },
        [STAGE_DETACHING] = {
                [SIGNAL_DONE]      = TO(STAGE_VERIFYING,  EFFECT_VERIFY),
                [SIGNAL_LOST]      = TO(STAGE_VERIFYING,  EFFECT_VERIFY),
                [SIGNAL_FAILED]    = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
        },
        /* Read, never repeated: only a reading that shows us still in, after long enough, leads back. */
        [STAGE_VERIFYING] = {
                [SIGNAL_DUE]       = TO(STAGE_VERIFYING,  EFFECT_VERIFY),
                [SIGNAL_OUT]       = TO(STAGE_REMOVED,    EFFECT_NONE),
                [SIGNAL_STILL_IN]  = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
        },
        [STAGE_UNDOING] = {
                [SIGNAL_DUE]       = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_DONE]      = TO(STAGE_HELD,       EFFECT_NONE),
                [SIGNAL_OUT]       = TO(STAGE_REMOVED,    EFFECT_NONE),
        },
        [STAGE_REMOVED] = {
                [SIGNAL_IN_AGAIN]  = TO(STAGE_UNDOING,    EFFECT_UNDRAIN),
                [SIGNAL_DUE]       = TO(STAGE_ENDING,     EFFECT_END),
        },
        [STAGE_ENDING] = {
                [SIGNAL_DONE]      = TO(STAGE_REMOVED,    EFFECT_NONE),
                [SIGNAL_FAILED]    = TO(STAGE_REMOVED,    EFFECT_NONE),
                [SIGNAL_LOST]      = TO(STAGE_REMOVED,    EFFECT_NONE),
        },
};
/* clang-format on */

Transition remedy_transition(Stage stage, Signal signal) {
        return transitions[stage][signal];
}
