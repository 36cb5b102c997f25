/* SPDX-License-Identifier: Apache-2.0
 *
 * The protocol by which the hosts of one group take turns in leaving it: looks, ledger, claims, turns, the drain and
 * its undoing, and patrol. tests/model/run has spin try every order of events. What is in here are the rules that the
 * agents keep, not their code. One agent per host that may fall sick, and one for each finder, on a host that stays
 * well.
 *
 * What is asserted, and where:
 *   S1  no more than MAX_ACTIONS removals of the group within WINDOW, patrol's included        takes_effect()
 *   S2  no repair, drain or removal while the last look showed a hold                          allowed()
 *   S3  none of them after a look that failed, or without one; none by a finder cut off        allowed()
 *   S4  none of a host that ECS called connected at the last look                              allowed()
 *       none of a host twice in one incident                                                   takes_effect()
 *       none of a host whose drain another has undone meanwhile                                takes_effect()
 *       nobody else's drain undone, and none of a host that has been removed                   undo()
 *       no drain of ours left behind, without a mark that tells whose it is                    over()
 *
 * Time is counted in ticks of half a minute. Within a tick any number of steps happen in any order, and between any
 * two steps any number of ticks may pass: calls and hosts are as slow as they like, except where the protocol itself
 * looks at its clock. What only has to be long enough is left out (grace, back-off) or cut (WINDOW is 8 ticks, not
 * 60; CONFIRM 4 for patrol.after, not 40; OLD 8, not 20; SETTLED 5, at which an undoing begins, not 20): a longer
 * wait allows fewer orders, not others. What is compared with each other is kept: a slot has 4 ticks, its owner acts
 * in the first and patrol in the third; two looks are GAP to LOOK_COUNTS ticks apart; a removal is sent at most HURRY
 * ticks after the look that began it, and may stay invisible for LAG ticks. Two events in ticks n and n + 2 may be
 * less than 60 s apart, so what is shown within 60 s is certain from the third tick on.
 *
 * Two marks: the host's own, and patrol's claim, which names its finder. The last writer of a claim is its owner. A
 * finder that reads another's claim lets go, and undoes nothing. One that goes back waits SETTLED ticks first, in
 * case a removal by it or by another finder is on its way, and undoes only a claim that is its own. Deleting goes by
 * the attribute's name, whoever has written it last: so what a finder undoes is read in the first tick of a slot and
 * written at most CHAIN later, and claims are written from the third on. A host that undoes an old claim, or its own
 * mark when that is about to be old enough for finders, keeps to the same time.
 *
 * Orders of hash(instance, slot) are the rotations of the hosts, forwards and backwards: all of them for three hosts,
 * 8 of 24 for four.
 *
 * Any look may fail. That stands for every reason to wait (throttled, blind, back-off, loop, replacement, a removal
 * that shows earlier than it must), as all of them end in the same place.
 *
 * Assumed, so not shown here:
 *   - ECS shows a disconnection late, but when it does, to everybody. An agent that ECS calls connected has no
 *     incident, so that "visible within grace + repair" need not be assumed.
 *   - An attribute is seen by every read after its write (with CLAIMS_UNSEEN: by none, which breaks S1 unless a
 *     removal ends in the tick it begins in, and looks are 2 min apart), and an agent that got no answer to its write
 *     does not go on.
 *   - Membership is at most LAG late, activities at most SLOW.
 *   - A DetachInstances takes effect within a tick of being sent, or never, whether its sender freezes or not; other
 *     calls at once, or never. One of an instance that is no member is refused.
 *   - What a look reads is read at one moment.
 *   - Clocks differ by less than lies between the windows of a slot.
 *   - An operator drains no host that is being removed, or carries a claim: ECS cannot tell whose drain it is.
 *   - A finder that never comes back, with a host that never wakes and is never patrolled again: their drain stays.
 *   - Patrol at a host whose own agent acts at the same time is explored for one such host, and among several
 *     sampled.
 *   - One group. The cluster's budget is the same ledger over more hosts.
 */

#ifndef N
#define N 3 /* hosts that may fall sick */
#endif
#ifndef FINDERS
#define FINDERS 0 /* agents that patrol; on hosts that stay well, and are no members that count */
#endif
#ifndef FROZEN
#define FROZEN 0 /* of the N, those that are frozen from the start */
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
#ifndef FREEZES
#define FREEZES 0 /* agents of sick hosts that freeze, wherever they are */
#endif
#ifndef WAKES
#define WAKES 0
#endif
#ifndef CUT_OFF
#define CUT_OFF 0 /* finders that lose their own link */
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
#define GAP 2
#endif
#ifndef CONFIRM
#define CONFIRM 4 /* ticks between ECS's word that the link is down and the first look; patrol.after has 40 */
#endif
#define LOOK_COUNTS 6 /* ticks: 3 min */
#define HURRY 2       /* ticks from the look that begins a removal to the call that ends it, at most */
#define SETTLED 5     /* ticks after which membership tells what became of a DetachInstances: in flight, and LAG */
#ifndef OLD
#define OLD 8 /* ticks after which a claim may be taken over; more than HURRY + SETTLED */
#endif
#ifndef CHAIN
#define CHAIN 1 /* ticks from what a call has read to what it then writes */
#endif

/* Roles 0 to N - 1 are the hosts' own agents, the others finders. */
#define ROLES (N + FINDERS)
#define is_finder(me) (me >= N)

/* link */
#define UP 0
#define DARK 1 /* down, but ECS does not show it yet */
#define DOWN 2

/* drain */
#define NOBODY 0
#define OURS 1
#define FOREIGN 2

/* stage */
#define IDLE 0      /* no incident; patrol: no target */
#define CONFIRMED 1 /* ECS agrees that the link is down */
#define ASKING 2    /* no look that counts */
#define LOOKED 3    /* one clear look */
#define CLAIMING 4  /* two, and it is our turn: the attribute is next */
#define DRAINING 5
#define CHECKING 6 /* the look between drain and detach is next */
#define SENDING 7
#define SENT 8 /* DetachInstances is on its way, or its answer is; or was never sent, and must be known not to be */
#define READING 9 /* what is ours at ECS, to be undone */
#define UNDOING 10
#define DONE 11

/* saw */
#define SAW_NOTHING 1
#define SAW_HOLD 2
#define SAW_CONNECTED 4
#define SAW_CUT_OFF 8

/* found, before an undoing */
#define FOUND_MARK 1
#define FOUND_CLAIM 2
#define FOUND_DRAIN 4

/* The truth. */
byte link[N];
bit out[N];     /* no member of the group any more */
byte age[N];    /* ticks since the removal, up to WINDOW */
bit mark[N];    /* attribute "incident: removing", by its own agent */
byte claim[N];  /* attribute "patrol: removing": the finder, 0 for none */
byte marked[N]; /* ticks since it was written, up to OLD */
byte since[N];
byte drain[N];  /* who made the status DRAINING; ECS shows only that somebody did */
bit frozen[ROLES];
bit cut_off[ROLES];
bit hold;

/* What an agent knows. */
byte stage[ROLES];
byte t[ROLES];      /* ticks since the look that counts, the one that began the removal, the detach, or the reading */
byte memory[ROLES]; /* hosts that its looks showed sick and in service */
bit alone[ROLES];   /* at the last look no other host was sick */
bit journal[ROLES]; /* a drain may be on that is ours; written before the claim */
bit again[ROLES];   /* once all is undone, the incident is over, too */
byte found[ROLES];
byte saw[ROLES];    /* the last look; this and the next for the assertions only */
bit removed[ROLES]; /* its DetachInstances has taken effect in this incident */
byte target[ROLES];

byte phase; /* tick of the slot */
byte first; /* the slot's order of hosts */
bit backwards;

byte crashes, lost, recoveries, freezes, wakes, cuts, foreign, attached, holds;

/* Scratch of one atomic step, 0 between steps. */
byte i, at, sick, spent, owner, subject;
bit absent;

#define flag(x) (1 << (x))
#define remembered(me, x) ((memory[me] & flag(x)) != 0)
#define recent(x) (age[x] < WINDOW)
#define old_mark(x) (marked[x] >= OLD)
#define old_claim(x) (since[x] >= OLD)

/* Who has a drain of host x in its journal will see to it. */
#if FINDERS > 1
#define journals(x) (journal[x] || (journal[N] && target[N] == x) || (journal[N + 1] && target[N + 1] == x))
#elif FINDERS == 1
#define journals(x) (journal[x] || (journal[N] && target[N] == x))
#else
#define journals(x) (journal[x])
#endif
/*
 * An agent may also go where another's claim tells whose drain it is, and a finder from the host's own mark; and from
 * its own claim when it has removed the host: if an operator attaches that again, its agent undoes it as an old claim.
 */
#define may_go(me, x) (journals(x) || (is_finder(me) && mark[x]) || \
        (claim[x] != 0 && (claim[x] != me || stage[me] == DONE || old_claim(x))))

/*
 * The ledger, as a look shows it: claims, which are listed whatever the link of their host, and of members until they are
 * old; activities; and remembered hosts that are no longer members.
 */
#ifdef DESCRIBES_DISCONNECTED_ONLY
#define described(x) (link[x] == DOWN)
#else
#define described(x) true
#endif
#if defined(NO_CLAIM) || defined(CLAIMS_UNSEEN)
#define shows_claim(x) false
#else
#define shows_claim(x) (described(x) && (out[x] -> recent(x) && (mark[x] || claim[x] != 0) : \
        mark[x] && !old_mark(x) || claim[x] != 0 && !old_claim(x)))
#endif
#define shows_activity(x) (age[x] > SLOW && recent(x))
#ifdef NO_MEMORY
#define shows_absence(me, x) false
#else
#define shows_absence(me, x) (remembered(me, x) && absent && recent(x))
#endif

#ifdef TURNS_FROM_CONFIRMATION
#define turn_is(me, next) true /* each counts turns from a moment of its own: those of two may coincide */
#else
#define turn_is(me, next) (is_finder(me) -> next == SENDING || (owner == subject && phase == 2) : \
        sick == flag(me) || (owner == subject && (next == SENDING || phase == 0)))
#endif
/* What was begun in time may be ended while the slot lasts: the claim has told the others. */
#ifdef IN_QUARTER
#define in_time(me) (alone[me] || phase == 0)
#else
#define in_time(me) (!is_finder(me) || phase >= 2)
#endif

#ifdef IGNORES_HOLD
#define held(me) false
#elif defined(PATROLS_PAUSED)
#define held(me) (!is_finder(me) && hold)
#else
#define held(me) hold
#endif
#ifdef IGNORES_RECONNECT
#define connected(x) false
#else
#define connected(x) (link[x] != DOWN)
#endif

/*
 * When what is to be undone may be read: by a finder, and by a host where a claim or its own mark is old, in the first
 * quarter of a slot. What is written then is written before a finder may claim.
 */
#ifdef UNDOES_ANY_TIME
#define may_undo(me) true
#elif defined(HOST_UNDOES_ANY_TIME)
#define may_undo(me) (phase == 0 || !is_finder(me))
#else
#define may_undo(me) (phase == 0 || (!is_finder(me) && claim[me] == 0 && marked[me] + CHAIN < OLD))
#endif
/* A host that is about to undo has been removed by patrol meanwhile, and knows. */
#ifdef UNDOES_WHEN_OUT
#define is_out(me) false
#else
#define is_out(me) (!is_finder(me) && out[me] && age[me] > LAG)
#endif
#ifdef GOES_ON_CUT_OFF
#define blind(me) false
#else
#define blind(me) (cut_off[me])
#endif

/*
 * Marks at its host that stop an agent. The host's own waits for any claim of patrol's. A finder is stopped by young ones
 * of others, and once it has claimed, by any claim that is not its own any more.
 */
#ifdef IGNORES_OTHERS
#define foreign_claim(me, x) false
#else
#define foreign_claim(me, x) (journal[me] -> claim[x] != me : claim[x] != 0 && !old_claim(x))
#endif
#ifdef CLAIMS_UNSEEN
#define claimed(me) false
#else
#define claimed(me) (is_finder(me) -> (mark[subject] && !old_mark(subject)) || foreign_claim(me, subject) : \
        claim[subject] != 0)
#endif
/* A drain without a claim is an operator's; and once we have drained, it must be there still. */
#ifdef TRUSTS_ITS_DRAIN
#define drained_well(me) (drain[subject] == NOBODY || journal[me] || mark[subject] || claim[subject] != 0)
#else
#define drained_well(me) (stage[me] == CHECKING -> drain[subject] != NOBODY : \
        drain[subject] == NOBODY || journal[me] || mark[subject] || claim[subject] != 0)
#endif

#define is_clear(me) (!held(me) && !blind(me) && !connected(subject) && !out[subject] && spent < MAX_ACTIONS && \
        !claimed(me) && drained_well(me))

inline forget_scratch() {
        i = 0;
        at = 0;
        sick = 0;
        spent = 0;
        owner = 0;
        subject = 0
}

#define subject_of(me) (is_finder(me) -> target[me] : me)

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
                :: shows_activity(i) || (i != subject && (shows_claim(i) || shows_absence(me, i))) -> spent++
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

/* To see that removals happen at all: these must fail. */
#ifdef EXPECT_NO_REMOVAL
#define reached_removal(me) false
#elif defined(EXPECT_NO_REMOVAL_BY_PATROL)
#define reached_removal(me) (!is_finder(me))
#else
#define reached_removal(me) true
#endif

#ifdef EXPECT_NO_TAKING_OVER
#define reached_taking_over(me) (claim[subject] == 0 || claim[subject] == me)
#else
#define reached_taking_over(me) true
#endif
#ifdef EXPECT_NO_LETTING_GO
#define reached_letting_go false
#else
#define reached_letting_go true
#endif

/* One look: to `yes` when it is clear and our turn, to `later` when it is clear and is not, else back to ASKING. */
inline look(me, yes, later) {
        subject = subject_of(me);
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
#ifdef IN_QUARTER
                        alone[me] = (sick == flag(me));
#endif
                        saw[me] = (hold -> SAW_HOLD : 0) | (link[subject] != DOWN -> SAW_CONNECTED : 0) |
                                  (cut_off[me] -> SAW_CUT_OFF : 0);
                        stage[me] = (turn_is(me, yes) -> yes : later);
                        printf("agent %d: looks, clear; sick %x, turn of %d, goes to stage %d\n",
                                me, sick, owner, stage[me]);
                        if
                        :: stage[me] == ASKING -> fail(me)
                        :: stage[me] == LOOKED || stage[me] == CLAIMING -> t[me] = 0
                        :: else -> skip
                        fi
                :: else ->
#ifndef IGNORES_OTHERS
                        if
                        :: is_finder(me) && journal[me] && claim[subject] != 0 && claim[subject] != me ->
                                /* Another finder has claimed it since: the drain and what follows are its own now. */
                                printf("agent %d: finds another's claim, lets go\n", me);
                                assert(reached_letting_go);
                                over(me)
                        :: else -> fail(me)
                        fi
#else
                        fail(me)
#endif
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
        stage[me] = (drain[me] != NOBODY -> READING : ASKING)
#else
        if
        :: !journal[me] -> stage[me] = ASKING
#ifndef UNDOES_AT_ONCE
        :: journal[me] && is_finder(me) -> stage[me] = SENT; t[me] = 2
#endif
        :: else -> stage[me] = READING
        fi
#endif
}

/* What must have been seen before a repair, a drain or a detach. */
inline allowed(me) {
        assert(!(saw[me] & SAW_NOTHING));   /* S3: blind */
        assert(!(saw[me] & SAW_CUT_OFF));   /* S3: cut off itself */
        assert(!(saw[me] & SAW_HOLD));      /* S2: a hold was visible */
        assert(!(saw[me] & SAW_CONNECTED))  /* S4: ECS called it connected */
}

/* The detach has reached Auto Scaling. */
inline takes_effect(me) {
        subject = subject_of(me);
        printf("        DetachInstances of host %d arrives\n", subject);
        assert(!removed[me]); /* S4: removed twice */
        i = 0;
        do
        :: i < N ->
                spent = spent + (recent(i) -> 1 : 0);
                i++
        :: else -> break
        od;
        assert(spent < MAX_ACTIONS); /* S1: more than MAX_ACTIONS within WINDOW */
        assert(drain[subject] != NOBODY); /* S4: its drain undone under the feet of who removes it */
        assert(reached_removal(me));
        printf("        host %d is removed\n", subject);
        out[subject] = 1;
        age[subject] = 0;
        removed[me] = 1
}

inline write_claim(me) {
        if
        :: is_finder(me) ->
                assert(reached_taking_over(me) || !old_claim(subject));
                claim[subject] = me;
                since[subject] = 0
        :: else -> mark[subject] = 1; marked[subject] = 0
        fi
}

inline drain_it() {
        drain[subject] = (drain[subject] == NOBODY -> OURS : drain[subject])
}

/* What of what stands at ECS is ours to undo. Who finds the other's mark leaves the drain to it. */
inline read_own(me) {
        subject = subject_of(me);
        found[me] = 0;
        if
        :: is_finder(me) ->
#ifdef IGNORES_OTHERS
                if
                :: claim[subject] != 0 ->
#else
                if
                :: claim[subject] == me ->
#endif
                        found[me] = FOUND_CLAIM | (!mark[subject] && drain[subject] != NOBODY -> FOUND_DRAIN : 0)
                :: else -> skip
                fi
        :: else ->
                if
                :: mark[subject] || claim[subject] != 0 ->
                        found[me] = (mark[subject] -> FOUND_MARK : 0) | (claim[subject] != 0 -> FOUND_CLAIM : 0) |
                                    (drain[subject] != NOBODY -> FOUND_DRAIN : 0)
#ifdef UNDOES_ANY_DRAIN
                :: drain[subject] != NOBODY -> found[me] = FOUND_DRAIN
#endif
                :: else -> skip
                fi
        fi;
        printf("agent %d: reads what is to be undone of host %d, finds %d\n", me, subject, found[me]);
        forget_scratch()
}

/* What was found is undone, whether it is the same still or not: an attribute is deleted by its name. */
inline undo(me) {
        subject = subject_of(me);
        if
        :: found[me] & FOUND_MARK -> mark[subject] = 0; marked[subject] = 0
        :: else -> skip
        fi;
        if
        :: found[me] & FOUND_CLAIM -> claim[subject] = 0; since[subject] = 0
        :: else -> skip
        fi;
        if
        :: (found[me] & FOUND_DRAIN) && drain[subject] != NOBODY ->
                printf("agent %d: undoes the drain of host %d\n", me, subject);
                assert(drain[subject] != FOREIGN); /* S4: a foreign drain undone */
                assert(!out[subject]);             /* S4: the drain of a removed host undone */
                drain[subject] = NOBODY
        :: else -> printf("agent %d: takes back its claim of host %d\n", me, subject)
        fi;
        forget_scratch()
}

/* The end of an incident, or of patrol's interest. */
inline over(me) {
        subject = subject_of(me);
        journal[me] = 0;
        assert(drain[subject] != OURS || out[subject] || may_go(me, subject)); /* S4: a drain left behind */
        printf("agent %d: is done with host %d\n", me, subject);
        stage[me] = IDLE;
        unlook(me);
        memory[me] = 0;
        again[me] = 0;
        found[me] = 0;
        removed[me] = 0;
        target[me] = 0;
        forget_scratch()
}

/* The part that an agent plays for itself, and patrol for its target. */
proctype agent(byte me) provided (!frozen[me]) {
        do
        /* How it begins: with ECS's word; patrol: with a peer in whose behalf nobody acts. */
        :: atomic { !is_finder(me) && stage[me] == IDLE && link[me] == DOWN && !out[me] && drain[me] == NOBODY ->
                printf("agent %d: ECS confirms that it is disconnected\n", me);
                stage[me] = CONFIRMED
           }
        :: atomic { stage[me] == CONFIRMED && t[me] >= CONFIRM -> stage[me] = ASKING; t[me] = 0 }
        :: atomic { is_finder(me) && stage[me] == IDLE && !blind(me) ->
                select(i : 0 .. N - 1);
                if
                :: link[i] == DOWN && !out[i] && (claim[i] == 0 || old_claim(i)) && (!mark[i] || old_mark(i)) &&
                   (drain[i] == NOBODY || mark[i] || claim[i] != 0) ->
                        printf("agent %d: patrols, finds host %d\n", me, i);
                        target[me] = i;
                        stage[me] = CONFIRMED
                :: else -> skip
                fi;
                i = 0
           }
        :: atomic { is_finder(me) && stage[me] == ASKING && !journal[me] -> over(me) }

        /* How it ends without an action: it is connected again. */
        :: atomic { !is_finder(me) && (stage[me] == CONFIRMED || stage[me] == ASKING || stage[me] == LOOKED) &&
                    link[me] != DOWN ->
                if
                :: journal[me] -> fail(me)
                :: else -> over(me)
                fi
           }
        /* It wakes in its group, and finds an old claim of patrol's: nobody minds it any more. */
        :: atomic { !is_finder(me) && stage[me] == IDLE && claim[me] != 0 && old_claim(me) && !out[me] ->
                journal[me] = 1;
                again[me] = 1;
                stage[me] = READING
           }

        /* Rules 1 and 3: a look before anything else, and two that are GAP to LOOK_COUNTS apart. */
        :: atomic { stage[me] == ASKING -> look(me, LOOKED, LOOKED) }
#ifdef REPAIRS_FIRST
        :: atomic { stage[me] == ASKING && !is_finder(me) -> allowed(me) } /* repair */
#else
        :: atomic { stage[me] == LOOKED && !is_finder(me) -> allowed(me) } /* repair */
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
                subject = subject_of(me);
                write_claim(me);
                printf("agent %d: claims host %d\n", me, subject);
                stage[me] = DRAINING;
                forget_scratch()
           }
        :: atomic { stage[me] == CLAIMING && in_time(me) && t[me] <= HURRY && lost < LOST_ANSWERS ->
                lost++;
                subject = subject_of(me);
                if
                :: write_claim(me) /* done, or not: nobody knows */
                :: skip
                fi;
                forget_scratch();
                fail(me)
           }

        :: atomic { stage[me] == DRAINING && t[me] <= HURRY ->
                allowed(me);
                subject = subject_of(me);
                drain_it();
                printf("agent %d: drains host %d\n", me, subject);
                stage[me] = CHECKING;
                forget_scratch()
           }
        :: atomic { stage[me] == DRAINING && t[me] <= HURRY && lost < LOST_ANSWERS ->
                lost++;
                allowed(me);
                subject = subject_of(me);
                if
                :: drain_it()
                :: skip
                fi;
                forget_scratch();
                fail(me)
           }

        /* Rule 6: a look between drain and detach. Rule 4: in our slot, or alone. */
#ifdef NO_LOOK_AFTER_DRAIN
        :: atomic { stage[me] == CHECKING -> stage[me] = SENDING }
#else
        :: atomic { stage[me] == CHECKING && t[me] <= HURRY -> look(me, SENDING, ASKING) }
#endif
        :: atomic { stage[me] >= CLAIMING && stage[me] <= SENDING && (t[me] > HURRY || !in_time(me)) -> fail(me) }
        :: atomic { stage[me] == SENDING && t[me] <= HURRY && in_time(me) ->
                printf("agent %d: sends DetachInstances\n", me);
                allowed(me);
                unlook(me);
                stage[me] = SENT
           }
        :: atomic { stage[me] == SENDING -> fail(me) } /* refused */
#ifdef REPEATS_DETACH
        :: atomic { stage[me] == SENT && t[me] >= 1 -> printf("agent %d: sends it again\n", me); t[me] = 0 }
#endif
        /* Membership tells how it ended; until it can, nothing is repeated and nothing undone. */
        :: atomic { stage[me] == SENT && t[me] == SETTLED ->
                if
                :: out[subject_of(me)] -> t[me] = 0; stage[me] = DONE
                :: else -> unlook(me); again[me] = 1; stage[me] = READING /* never done; or done, and attached again */
                fi
           }

        /* Patrol has removed it meanwhile: what stands at ECS stays. */
        :: atomic { stage[me] == READING && is_out(me) -> t[me] = 0; stage[me] = DONE }
        :: atomic { stage[me] == READING && may_undo(me) && !is_out(me) &&
                    (is_finder(me) || claim[me] == 0 || old_claim(me)) ->
                read_own(me);
                t[me] = 0;
                stage[me] = UNDOING
           }
        :: atomic { stage[me] == UNDOING && t[me] > CHAIN -> t[me] = 0; stage[me] = READING }
        :: atomic { stage[me] == UNDOING && t[me] <= CHAIN ->
                undo(me);
                journal[me] = 0;
                t[me] = 0;
                found[me] = 0;
                if
                :: !again[me] -> stage[me] = ASKING
                :: else -> over(me)
                fi
           }
        :: atomic { stage[me] == UNDOING && t[me] <= CHAIN && lost < LOST_ANSWERS ->
                lost++;
                if
                :: undo(me)
                :: skip
                fi;
                t[me] = 0;
                found[me] = 0;
#ifdef UNDOES_ONCE
                journal[me] = 0;
                stage[me] = ASKING
#else
                stage[me] = READING
#endif
           }

        /* Afterwards: patrol goes on; a host that was attached again begins anew. */
        :: atomic { stage[me] == DONE && (is_finder(me) || !out[me]) ->
                t[me] = 0;
                if
                :: is_finder(me) -> over(me)
                :: else -> journal[me] = 1; again[me] = 1; stage[me] = READING
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
                fail(me)
           }
        od
}

/* Ticks that an agent still counts in its stage. */
#define counts_to(x) (stage[x] == CONFIRMED -> CONFIRM : (stage[x] == LOOKED -> LOOK_COUNTS + 1 : \
        (stage[x] == SENT -> SETTLED : (stage[x] >= CLAIMING && stage[x] <= SENDING -> HURRY + 1 : \
        (stage[x] == UNDOING -> CHAIN + 1 : 0)))))

inline one_tick() {
        do
        :: i < ROLES ->
                t[i] = (t[i] < counts_to(i) -> t[i] + 1 : t[i]);
                if
                :: i < N ->
                        age[i] = (age[i] < WINDOW -> age[i] + 1 : age[i]);
#if FINDERS > 0
                        since[i] = (claim[i] != 0 && since[i] < OLD -> since[i] + 1 : since[i]);
                        marked[i] = (mark[i] && marked[i] < OLD -> marked[i] + 1 : marked[i])
#endif
                :: else -> skip
                fi;
                i++
        :: else -> break
        od;
        i = 0
}

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
                one_tick()
           }
        /* DetachInstances arrives, and its answer, if it does. One of a host that is out is refused. */
        :: atomic { true ->
                select(i : 0 .. ROLES - 1);
                if
                :: stage[i] == SENT && t[i] <= 1 && !out[subject_of(i)] ->
                        at = i;
                        takes_effect(at);
                        if
                        :: stage[at] = DONE
                        :: lost < LOST_ANSWERS -> lost++
                        fi
                :: else -> skip
                fi;
                forget_scratch()
           }
        :: atomic { true ->
                select(i : 0 .. N - 1);
                if
                :: link[i] == UP && !out[i] -> printf("        host %d loses its link\n", i); link[i] = DARK
                :: link[i] == DARK -> printf("        ECS shows host %d disconnected\n", i); link[i] = DOWN
                :: link[i] != UP && !frozen[i] && recoveries < RECOVERIES ->
                        printf("        host %d reconnects\n", i);
                        recoveries++;
                        link[i] = UP
                :: link[i] == DOWN && !frozen[i] && freezes < FREEZES ->
                        printf("        host %d freezes\n", i);
                        freezes++;
                        frozen[i] = 1
                :: frozen[i] && wakes < WAKES ->
                        printf("        host %d wakes\n", i);
                        wakes++;
                        frozen[i] = 0
                :: drain[i] == NOBODY && !mark[i] && claim[i] == 0 && !journals(i) && foreign < FOREIGN_DRAINS ->
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
#if CUT_OFF > 0
        :: atomic { cuts < CUT_OFF && !cut_off[N] ->
                printf("        finder %d loses its link\n", N);
                cuts++;
                cut_off[N] = 1
           }
#endif
        :: atomic { hold == 0 && holds < HOLDS -> printf("        a hold begins\n"); holds++; hold = 1 }
        :: atomic { hold == 1 -> printf("        the hold ends\n"); hold = 0 }
        od
}

init {
        atomic {
                do
                :: i < ROLES ->
                        saw[i] = SAW_NOTHING;
                        if
                        :: i < N ->
                                age[i] = WINDOW;
                                frozen[i] = (i < FROZEN -> 1 : 0);
                                link[i] = (i < FROZEN -> DOWN : UP)
                        :: else -> skip
                        fi;
                        run agent(i);
                        i++
                :: else -> break
                od;
                forget_scratch();
                run world()
        }
}
