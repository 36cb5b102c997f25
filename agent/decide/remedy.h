/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The remedy: states x signals. What has happened is first put into one named signal; the table says where it leads. */

#include "agent/decide/core.h"

typedef enum Signal {
        SIGNAL_NONE,
        SIGNAL_ILL,       /* a fault of this host, by enough witnesses */
        SIGNAL_WELL,      /* not, or no longer */
        SIGNAL_RIPE,      /* grace is over, ECS has confirmed: look */
        SIGNAL_CONNECTED, /* ECS calls the agent connected */
        SIGNAL_DUE,       /* what the stage waited for has come */
        SIGNAL_CLEAR,     /* a look, no brake holds, and an earlier one was clear as well */
        SIGNAL_FIRST,     /* a look, no brake holds, but there is no earlier one */
        SIGNAL_QUEUED,    /* a look, nothing but another's turn holds */
        SIGNAL_REPAIR,    /* a look, no brake holds, and a local repair is to be tried first */
        SIGNAL_UNDRAINED, /* a look, no brake holds, but the drain of before our restart has never been made */
        SIGNAL_BRAKED,    /* a brake holds, or the look failed */
        SIGNAL_DONE,      /* the effect has happened */
        SIGNAL_FAILED,    /* the effect has certainly not happened */
        SIGNAL_LOST,      /* it may have happened */
        SIGNAL_OUT,       /* this instance is out of its group */
        SIGNAL_STILL_IN, /* it is still in, and nothing is on its way */
        SIGNAL_IN_AGAIN, /* somebody has attached it again */
} Signal;
#define SIGNAL_N (SIGNAL_IN_AGAIN + 1)

typedef struct Transition {
        bool listed;
        Stage next;
        EffectType effect; /* EFFECT_NONE: none */
} Transition;

#define EFFECT_NONE ((EffectType) EFFECT_TYPE_N)

/** remedy_transition() - where @signal leads from @stage; not listed: stay and do nothing */
Transition remedy_transition(Stage stage, Signal signal);
