/* SPDX-License-Identifier: Apache-2.0
 *
 * The protocol by which the hosts of one group take turns in leaving it: looks, ledger, claims, turns, the drain and its
 * undoing, and patrol. tests/model/run has spin try every order of events. What is in here are the rules that the agents
 * keep, not their code. One agent per host that may fall sick, and one on a host that stays well and patrols.
 *
 * What is asserted, and where:
 *   S1  no more than MAX_ACTIONS removals of the group within WINDOW, patrol's included        takes_effect()
 *   S2  no repair, drain or removal while the last look showed a hold                          allowed()
 *   S3  none of them after a look that failed, or without one                                  allowed()
 *   S4  none of a host that ECS called connected at the last look                              allowed()
 *       none of a host twice in one incident                                                   takes_effect()
 *       nobody else's drain undone                                                             undo()
 *       no drain of ours left behind when the incident is over                                 over()
 *
 * Time is counted in ticks of half a minute. Within a tick any number of steps happen in any order, and between any two
 * steps any number of ticks may pass: calls and hosts are as slow as they like, except where the protocol itself looks
 * at its clock. What only has to be long enough is left out (grace, back-off) or cut (WINDOW is 8 ticks, not 60; CONFIRM
 * 6 for patrol.after, not 40): a longer wait allows fewer orders, not others. What is compared with each other is kept: a
 * slot has 4 ticks, its owner acts in the first and patrol in the third; two looks are GAP to LOOK_COUNTS ticks apart; a
 * removal may stay invisible for LAG ticks. Two events in ticks n and n + 2 may be less than 60 s apart, so what is shown
 * within 60 s is certain from the third tick on.
 *
 * Orders of hash(instance, slot) are the rotations of the hosts, forwards and backwards: all of them for three hosts,
 * 8 of 24 for four.
 *
 * Any look may fail. That stands for every reason to wait (throttled, blind, back-off, loop, replacement, a removal that
 * shows earlier than it must), as all of them end in the same place.
 *
 * Assumed, so not shown here:
 *   - ECS shows a disconnection late, but when it does, to everybody. An agent that ECS calls connected has no incident,
 *     so that "visible within grace + repair" need not be assumed.
 *   - An attribute is seen by every read after its write (with CLAIMS_UNSEEN: by none), and an agent that got no answer
 *     to its write does not go on.
 *   - Membership is at most LAG late, activities at most SLOW.
 *   - A DetachInstances takes effect within a tick of being sent, or never; other calls at once, or never.
 *   - What a look reads is read at one moment.
 *   - Clocks differ by less than lies between the windows of a slot.
 *   - An operator drains no host that is being removed: ECS cannot tell whose drain it is.
 *   - A host that dies for good in the midst of a removal keeps its drain; who takes that over is not modelled.
 *   - Patrol meets no link that comes back: too large to explore whole, so with it that is only sampled.
 *   - With CLAIMS_UNSEEN there is no patrol and no link comes back: a removal by patrol may be half a minute old when the
 *     next slot begins, and only the claim tells.
 *   - One group. The cluster's budget is the same ledger over more hosts.
 */

#ifndef N
#define N 3 /* hosts that may fall sick */
#endif
#ifndef MAX_ACTIONS
#define MAX_ACTIONS 1
#endif
#ifndef WINDOW
#define WINDOW 8
#endif

/* How often each of these may happen in a run. */
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOST_ANSWERS
#define LOST_ANSWERS 0
#endif
#ifndef RECOVERIES
#define RECOVERIES 0 /* links that come back */
#endif
#ifndef FOREIGN_DRAINS
#define FOREIGN_DRAINS 0
#endif
#ifndef ATTACHED
#define ATTACHED 0 /* removed hosts that an operator attaches again */
#endif
#ifndef HOLDS
#define HOLDS 0 /* share, settle, group, off or pause begins to hold */
#endif

#define LAG 2
#ifndef SLOW
#define SLOW LAG
#endif
#ifndef GAP
#define GAP 4
#endif
#ifndef CONFIRM
#define CONFIRM 6 /* ticks between ECS's word that the link is down and the first look; patrol.after has 40 */
#endif
#define LOOK_COUNTS 6 /* ticks: 3 min */
#ifndef HURRY
#ifndef HURRY
#define HURRY 2 /* ticks from the look that begins a removal to the call that ends it, at most */
#endif
#endif
#define SETTLED 5 /* ticks after which membership tells what became of a DetachInstances: in flight, and LAG */

/* Host number N is the one that patrols: it never falls sick, and is no member that counts. */
#ifdef PATROL
#define ROLES (N + 1)
#else
#define ROLES N
#endif
#define PATROLLER N

/* link */
#define UP 0
#define DARK 1 /* down, but ECS does not show it yet */
#define DOWN 2

/* claim, drain */
#define NOBODY 0
#define SELF 1
#define PATROLS 2
#define OURS 3
#define FOREIGN 4

/* stage */
#define IDLE 0      /* no incident; patrol: no target */
#define CONFIRMED 1 /* ECS agrees that the link is down */
#define ASKING 2    /* no look that counts */
#define LOOKED 3    /* one clear look */
#define CLAIMING 4  /* two, and it is our turn: the attribute is next */
#define DRAINING 5
#define CHECKING 6 /* the look between drain and detach is next */
#define SENDING 7
#define SENT 8 /* DetachInstances is on its way, or its answer is */
#define UNDOING 9
#define DONE 10

/* saw */
#define SAW_NOTHING 1
#define SAW_HOLD 2
#define SAW_CONNECTED 4

/* The truth. */
byte link[N + 1];
bit out[N + 1];     /* no member of the group any more */
byte age[N + 1];    /* ticks since the removal, up to WINDOW */
byte claim[N + 1];  /* attribute "removing": who wrote it */
byte drain[N + 1];  /* who made the status DRAINING; ECS shows only that somebody did */
bit removed[N + 1]; /* in this incident */
bit hold;

/* What an agent knows. */
byte stage[N + 1];
byte t[N + 1];      /* ticks since the look that counts, the one that began the removal, or the detach */
byte memory[N + 1]; /* hosts that its looks showed sick and in service */
bit alone[N + 1];   /* at the last look no other host was sick */
bit journal[N + 1]; /* a drain may be on that is ours; written before the claim */
byte saw[N + 1];    /* the last look, for the assertions only */
byte target;        /* of patrol */

byte phase; /* tick of the slot */
byte first; /* the slot's order of hosts */
bit backwards;

byte crashes, lost, recoveries, foreign, attached, holds;

/* Scratch of one atomic step, 0 between steps. */
byte i, at, sick, spent, owner, subject;
bit absent;

#define flag(x) (1 << (x))
#define mine(me) (me == PATROLLER -> PATROLS : SELF)
#define theirs(me) (me == PATROLLER -> SELF : PATROLS)
#define remembered(me, x) ((memory[me] & flag(x)) != 0)
#define answered_for(x) (journal[x] || (target == x && journal[PATROLLER]))
#define recent(x) (age[x] < WINDOW)
#define in_time(me) (alone[me] || phase == (me == PATROLLER -> 2 : 0))

/*
 * The ledger, as a look shows it: claims of hosts that it describes, which are the disconnected ones and those that are
 * remembered (LISTS_CLAIMS: and all that carry the attribute); activities; and remembered hosts that are no longer
 * members. A host that reconnects between its last look and its detach is not disconnected when others look: its claim
 * is seen only if they remember it, and if their two looks are more than LAG and a removal's own time apart. So GAP is
 * 2 min; the 60 s of an earlier version are a variant that breaks.
 */
#if defined(NO_MEMORY) || defined(DESCRIBES_DISCONNECTED_ONLY)
#define described(me, x) (link[x] == DOWN)
#elif defined(LISTS_CLAIMS)
#define described(me, x) true
#else
#define described(me, x) (link[x] == DOWN || remembered(me, x))
#endif
#ifdef NO_CLAIM
#define shows_claim(me, x) false
#else
#define shows_claim(me, x) (described(me, x) && claim[x] != NOBODY && (!out[x] || recent(x)))
#endif
#define shows_activity(x) (age[x] > SLOW && recent(x))
#ifdef NO_MEMORY
#define shows_absence(me, x) false
#else
#define shows_absence(me, x) (remembered(me, x) && absent && recent(x))
#endif

#ifdef TURNS_FROM_CONFIRMATION
#define turn_is(me) true /* each counts turns from a moment of its own: those of two may coincide */
#else
#define turn_is(me) (owner == subject && phase == (me == PATROLLER -> 2 : 0) || me != PATROLLER && sick == flag(me))
#endif
#ifdef IGNORES_HOLD
#define held false
#else
#define held hold
#endif
#ifdef IGNORES_RECONNECT
#define connected(x) false
#else
#define connected(x) (link[x] != DOWN)
#endif

#define is_clear(me) (!held && !connected(subject) && !out[subject] && spent < MAX_ACTIONS && \
        !(claim[subject] & theirs(me)) && (drain[subject] == NOBODY || journal[me]))

inline forget_scratch() {
        i = 0;
        at = 0;
        sick = 0;
        spent = 0;
        owner = 0;
        subject = 0
}

/* Reads sick, spent and owner. A removal that is younger than LAG shows in membership, or does not. */
inline read_all(me) {
        do
        :: i < N ->
                if
                :: !out[i] || age[i] <= LAG -> absent = 0
                :: out[i] -> absent = 1
                fi;
                sick = sick | (link[i] == DOWN && !absent -> flag(i) : 0);
                if
                :: shows_activity(i) || (i != subject && (shows_claim(me, i) || shows_absence(me, i))) -> spent++
                :: else -> skip
                fi;
                i++
        :: else -> break
        od;
        i = 0;
        absent = 0;
        owner = N;
        do
        :: i < N ->
                at = (backwards -> (first + N - i) % N : (first + i) % N);
                if
                :: sick & flag(at) -> owner = at; break
                :: else -> i++
                fi
        :: else -> break
        od
}

/* One look: to `yes` when it is clear and our turn, to `later` when it is clear and is not, else back to ASKING. */
inline look(me, yes, later) {
        subject = (me == PATROLLER -> target : me);
        if
        :: true ->
#ifdef ACTS_BLINDLY
                saw[me] = SAW_NOTHING;
                stage[me] = yes
#else
                fail(me)
#endif
        :: true ->
                read_all(me);
                if
                :: is_clear(me) ->
                        memory[me] = memory[me] | (sick & (255 - flag(subject)));
                        alone[me] = (me != PATROLLER && sick == flag(me));
                        saw[me] = (hold -> SAW_HOLD : 0) | (link[subject] != DOWN -> SAW_CONNECTED : 0);
                        stage[me] = (turn_is(me) -> yes : later);
                        printf("agent %d: looks, clear; sick %x, turn of %d, goes to stage %d\n", me, sick, owner, stage[me]);
                        if
                        :: stage[me] == UNDOING -> unlook(me)
                        :: stage[me] == LOOKED || stage[me] == CLAIMING -> t[me] = 0
                        :: else -> skip
                        fi
                :: else ->
                        fail(me)
                fi
        fi;
        forget_scratch()
}

inline unlook(me) {
        t[me] = 0;
        alone[me] = 0;
        saw[me] = SAW_NOTHING
}

/* No look that counts. A claim or a drain from before is taken back first. */
inline fail(me) {
        unlook(me);
        printf("agent %d: holds\n", me);
#ifdef UNDOES_ANY_DRAIN
        stage[me] = (drain[me] != NOBODY -> UNDOING : ASKING)
#else
        stage[me] = (journal[me] -> UNDOING : ASKING)
#endif
}

/* What must have been seen before a repair, a drain or a detach. */
inline allowed(me) {
        assert(!(saw[me] & SAW_NOTHING));  /* S3: blind */
        assert(!(saw[me] & SAW_HOLD));     /* S2: a hold was visible */
        assert(!(saw[me] & SAW_CONNECTED)) /* S4: ECS called it connected */
}

/* To see that removals happen at all: these must fail. */
#ifdef EXPECT_NO_REMOVAL
#define reached_removal() false
#elif defined(EXPECT_NO_REMOVAL_BY_PATROL)
#define reached_removal() (stage[PATROLLER] != SENT)
#else
#define reached_removal() true
#endif

/* The detach has reached Auto Scaling. */
inline takes_effect(who) {
        printf("        DetachInstances of host %d arrives\n", who);
        assert(!removed[who]); /* S4: removed twice */
        do
        :: i < N ->
                spent = spent + (recent(i) -> 1 : 0);
                i++
        :: else -> break
        od;
        assert(spent < MAX_ACTIONS); /* S1: more than MAX_ACTIONS within WINDOW */
        assert(reached_removal());
        printf("        host %d is removed\n", who);
        out[who] = 1;
        age[who] = 0;
        removed[who] = 1
}
/* Own agent and patrol write attributes of different names, so that neither can take away the other's. */
inline write_claim(me) {
#ifdef ONE_ATTRIBUTE
        claim[subject] = mine(me)
#else
        claim[subject] = claim[subject] | mine(me)
#endif
}

/* The claim first. Who finds the other's then leaves the drain to him. */
inline undo(me) {
        subject = (me == PATROLLER -> target : me);
        printf("agent %d: takes back its claim of host %d\n", me, subject);
        claim[subject] = claim[subject] & theirs(me);
        if
#ifdef UNDOES_ANY_DRAIN
        :: claim[subject] == NOBODY && drain[subject] != NOBODY ->
#else
        :: claim[subject] == NOBODY && drain[subject] != NOBODY && journal[me] ->
#endif
                printf("agent %d: undoes the drain of host %d\n", me, subject);
                assert(drain[subject] != FOREIGN); /* S4: a foreign drain undone */
                drain[subject] = NOBODY
        :: else -> skip
        fi;
        forget_scratch()
}

/* The end of an incident, or of patrol's interest. */
inline over(me) {
        subject = (me == PATROLLER -> target : me);
        journal[me] = 0;
        assert(drain[subject] != OURS || out[subject] || answered_for(subject)); /* S4: a drain left behind */
        printf("agent %d: is done with host %d\n", me, subject);
        stage[me] = IDLE;
        unlook(me);
        memory[me] = 0;
        if
        :: me == PATROLLER -> target = 0
        :: else -> removed[me] = 0
        fi;
        forget_scratch()
}

/* The part that an agent plays for itself, and patrol for its target. */
proctype agent(byte me) {
        do
        /* How it begins: with ECS's word; patrol: with a peer in whose behalf nobody acts. */
        :: atomic { me != PATROLLER && stage[me] == IDLE && link[me] == DOWN && !out[me] && drain[me] == NOBODY ->
                printf("agent %d: ECS confirms that it is disconnected\n", me);
                stage[me] = CONFIRMED
           }
        :: atomic { stage[me] == CONFIRMED && t[me] >= CONFIRM -> stage[me] = ASKING; t[me] = 0 }
        :: atomic { me == PATROLLER && stage[me] == IDLE ->
                select(target : 0 .. N - 1);
                if
                :: link[target] == DOWN && !out[target] && claim[target] == NOBODY && drain[target] == NOBODY ->
                        printf("agent %d: patrols, finds host %d\n", me, target);
                        stage[me] = CONFIRMED
                :: else -> target = 0
                fi
           }
        :: atomic { me == PATROLLER && stage[me] == ASKING && !journal[me] -> over(me) }

        /* How it ends without an action: it is connected again. */
        :: atomic { me != PATROLLER && (stage[me] == CONFIRMED || stage[me] == ASKING || stage[me] == LOOKED) &&
                    link[me] != DOWN ->
                if
                :: journal[me] -> fail(me)
                :: else -> over(me)
                fi
           }

        /* Rules 1 and 3: a look before anything else, and two that are GAP to LOOK_COUNTS apart. */
        :: atomic { stage[me] == ASKING -> look(me, LOOKED, LOOKED) }
#ifdef REPAIRS_FIRST
        :: atomic { stage[me] == ASKING && me != PATROLLER -> allowed(me) } /* repair */
#else
        :: atomic { stage[me] == LOOKED && me != PATROLLER -> allowed(me) } /* repair */
#endif
#ifdef DRAINS_FIRST
        :: atomic { stage[me] == ASKING -> journal[me] = 1; stage[me] = DRAINING }
#endif
        :: atomic { stage[me] == LOOKED && t[me] > LOOK_COUNTS -> fail(me) }
        :: atomic { stage[me] == LOOKED && t[me] >= GAP && t[me] <= LOOK_COUNTS ->
                look(me, CLAIMING, LOOKED);
                if
                :: stage[me] == CLAIMING -> journal[me] = 1
                :: else -> skip
                fi
           }

        /* Rule 2: the attribute, written just before the drain. */
        :: atomic { stage[me] == CLAIMING && in_time(me) && t[me] <= HURRY ->
                subject = (me == PATROLLER -> target : me);
#ifndef CLAIMS_UNSEEN
                write_claim(me);
#endif
                printf("agent %d: claims host %d\n", me, subject);
                stage[me] = DRAINING;
                forget_scratch()
           }
        :: atomic { stage[me] == CLAIMING && in_time(me) && t[me] <= HURRY && lost < LOST_ANSWERS ->
                lost++;
                subject = (me == PATROLLER -> target : me);
                if
                :: write_claim(me) /* done, or not: nobody knows */
                :: skip
                fi;
                forget_scratch();
                fail(me)
           }

        :: atomic { stage[me] == DRAINING && t[me] <= HURRY ->
                allowed(me);
                subject = (me == PATROLLER -> target : me);
                drain[subject] = (drain[subject] == NOBODY -> OURS : drain[subject]);
                printf("agent %d: drains host %d\n", me, subject);
                stage[me] = CHECKING;
                forget_scratch()
           }
        :: atomic { stage[me] == DRAINING && t[me] <= HURRY && lost < LOST_ANSWERS ->
                lost++;
                allowed(me);
                subject = (me == PATROLLER -> target : me);
                if
                :: drain[subject] = (drain[subject] == NOBODY -> OURS : drain[subject])
                :: skip
                fi;
                forget_scratch();
                fail(me)
           }

        /* Rule 6: a look between drain and detach. Rule 4: in our part of our slot, or alone. */
#ifdef NO_LOOK_AFTER_DRAIN
        :: atomic { stage[me] == CHECKING -> stage[me] = SENDING }
#else
        :: atomic { stage[me] == CHECKING && t[me] <= HURRY -> look(me, SENDING, UNDOING) }
#endif
        :: atomic { stage[me] >= CLAIMING && stage[me] <= SENDING &&
                    (t[me] > HURRY || (stage[me] == CLAIMING && !in_time(me))) ->
                fail(me)
           }
        :: atomic { stage[me] == SENDING && t[me] <= HURRY ->
                if
                :: in_time(me) ->
                        printf("agent %d: sends DetachInstances\n", me);
                        allowed(me);
                        unlook(me);
                        stage[me] = SENT
                :: else -> fail(me)
                fi
           }
        :: atomic { stage[me] == SENDING -> fail(me) } /* refused */

        /* In flight. Membership tells how it ended; until it can, nothing is repeated and nothing undone. */
        :: atomic { stage[me] == SENT && t[me] <= 1 && !out[(me == PATROLLER -> target : me)] ->
                subject = (me == PATROLLER -> target : me);
                takes_effect(subject);
                forget_scratch();
                if
                :: stage[me] = DONE
                :: lost < LOST_ANSWERS -> lost++
                fi
           }
#ifdef REPEATS_DETACH
        :: atomic { stage[me] == SENT && t[me] >= 1 -> printf("agent %d: sends it again\n", me); t[me] = 0 }
#endif
        :: atomic { stage[me] == SENT && t[me] == SETTLED ->
                if
                :: out[(me == PATROLLER -> target : me)] -> t[me] = 0; stage[me] = DONE
                :: else -> fail(me); t[me] = 1 /* perhaps it was done, and an operator attached the host again */
                fi
           }

        :: atomic { stage[me] == UNDOING ->
                undo(me);
                journal[me] = 0;
                if
                :: t[me] == 0 -> stage[me] = ASKING
                :: else -> over(me)
                fi
           }
        :: atomic { stage[me] == UNDOING && lost < LOST_ANSWERS ->
                lost++;
                if
                :: undo(me)
                :: skip
                fi
#ifdef UNDOES_ONCE
                ;
                journal[me] = 0;
                stage[me] = ASKING
#endif
           }

        /* Afterwards: patrol goes on; a host that was attached again begins anew. */
        :: atomic { stage[me] == DONE && (me == PATROLLER || !out[me]) ->
                t[me] = 0;
                if
                :: me == PATROLLER -> over(me)
                :: else ->
                        claim[me] = NOBODY;
                        drain[me] = NOBODY;
                        over(me)
                fi
           }

        /* The process dies and comes back: the journal survives, what looks have shown does not. */
        :: atomic { crashes < CRASHES && stage[me] >= LOOKED && stage[me] <= SENDING ->
                crashes++;
                printf("agent %d: crashes and comes back\n", me);
                memory[me] = 0;
#ifdef NO_JOURNAL
                journal[me] = 0;
#endif
                unlook(me);
                stage[me] = ASKING
           }
        od
}

/* Ticks that an agent still counts in its stage. */
#define counts_to(x) (stage[x] == CONFIRMED -> CONFIRM : (stage[x] == LOOKED -> LOOK_COUNTS + 1 : \
        (stage[x] == SENT -> SETTLED : (stage[x] >= CLAIMING && stage[x] <= SENDING -> HURRY + 1 : 0))))

proctype world() {
        do
        :: atomic { true ->
                phase = (phase + 1) % 4;
                printf("--- tick %d of the slot\n", phase);
                if
                :: phase == 0 ->
                        select(first : 0 .. N - 1);
#if N > 2
                        if
                        :: backwards = 0
                        :: backwards = 1
                        fi
#endif
                :: else -> skip
                fi;
                do
                :: i < ROLES ->
                        t[i] = (t[i] < counts_to(i) -> t[i] + 1 : t[i]);
                        if
                        :: i < N && age[i] < WINDOW -> age[i]++
                        :: else -> skip
                        fi;
                        i++
                :: else -> break
                od;
                forget_scratch()
           }
        :: atomic { true ->
                select(i : 0 .. N - 1);
                if
                :: link[i] == UP && !out[i] -> printf("        host %d loses its link\n", i); link[i] = DARK
                :: link[i] == DARK -> printf("        ECS shows host %d disconnected\n", i); link[i] = DOWN
                :: link[i] != UP && recoveries < RECOVERIES ->
                        printf("        host %d reconnects\n", i);
                        recoveries++;
                        link[i] = UP
                :: drain[i] == NOBODY && claim[i] == NOBODY && !answered_for(i) && foreign < FOREIGN_DRAINS ->
                        foreign++;
                        printf("        an operator drains host %d\n", i);
                        drain[i] = FOREIGN
                :: out[i] && age[i] > LAG && attached < ATTACHED ->
                        printf("        an operator attaches host %d again\n", i);
                        attached++;
                        out[i] = 0
                :: else -> skip
                fi;
                i = 0
           }
        :: atomic { hold == 0 && holds < HOLDS -> printf("        a hold begins\n"); holds++; hold = 1 }
        :: atomic { hold == 1 -> printf("        the hold ends\n"); hold = 0 }
        od
}

init {
        atomic {
                do
                :: i < N + 1 ->
                        age[i] = WINDOW;
                        saw[i] = SAW_NOTHING;
                        if
                        :: i < ROLES -> run agent(i)
                        :: else -> skip
                        fi;
                        i++
                :: else -> break
                od;
                forget_scratch();
                run world()
        }
}
