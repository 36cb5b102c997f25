/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two things that run apart: the rounds (lifecycle state and spot notice, both at once), and the identity, whose parts
 * are asked one after the other and, while any is missing, again after a growing wait.
 */

#include <assert.h>
#include <string.h>

#include "agent/observe/metadata.h"
#include "common/backoff.h"
#include "common/loop.h"

typedef enum MetadataPart {
        METADATA_INSTANCE_ID,
        METADATA_REGION,
        METADATA_ZONE,
        METADATA_DOMAIN,
        METADATA_INSTANCE_TYPE,
} MetadataPart;
#define METADATA_PART_N (METADATA_INSTANCE_TYPE + 1)

/* Where a part is found, where it goes, whether it may not be there, and whether we can do without it. */
/* clang-format off */
static const struct {
        const char *path;
        size_t offset, size;
        bool absent, optional;
} metadata_parts[METADATA_PART_N] = {
#define METADATA_FIELD(field) offsetof(Identity, field), sizeof(((Identity *) NULL)->field)
        [METADATA_INSTANCE_ID]   = { "/latest/meta-data/instance-id", METADATA_FIELD(instance_id) },
        [METADATA_REGION]        = { "/latest/meta-data/placement/region", METADATA_FIELD(region) },
        [METADATA_ZONE]          = { "/latest/meta-data/placement/availability-zone", METADATA_FIELD(zone), true, true },
        [METADATA_DOMAIN]        = { "/latest/meta-data/services/domain", METADATA_FIELD(domain), true },
        [METADATA_INSTANCE_TYPE] = { "/latest/meta-data/instance-type", METADATA_FIELD(instance_type), true, true },
#undef METADATA_FIELD
};
/* clang-format on */

static const Backoff identity_backoff = { .base = SPAN_SEC(5), .ceiling = SPAN_MIN(5) };

struct Metadata {
        sd_event *event;
        Imds *imds;
        Span every;
        SampleHandler handler;
        void *userdata;

        Timer *timer;
        bool offset; /* the periods have been given their random offset */
        ImdsCall *lifecycle, *spot;
        Sample sample; /* of the round that is under way */

        Identity identity;
        Timer *identity_timer;
        ImdsCall *identity_call;
        bool settled[METADATA_PART_N]; /* known, or known not to be there */
        MetadataPart part;             /* that is asked for */
        unsigned attempt;
        void (*ready)(void *userdata); /* NULL: nobody waits, or it was called */
        void *ready_userdata;
};

/* --- Rounds --- */

static void metadata_see(Metadata *metadata, int error) {
        /* A right that is missing says more than an answer that is. */
        if (error == -EACCES)
                metadata->sample.sight = SIGHT_DENIED;
        else if (metadata->sample.sight == SIGHT_CLEAR)
                metadata->sample.sight = SIGHT_FAILED;
}

/* Hands the round over when both have come back. Last in its callers, for it may free us. */
static void metadata_finish(Metadata *metadata) {
        Sample sample = metadata->sample;

        if (metadata->lifecycle || metadata->spot)
                return;
        metadata->handler(&sample, metadata->userdata);
}

/* A single word, as all that we ask for are; blanks around it are dropped. False if it is anything else. */
static bool metadata_word(const char *text, size_t n, char *ret, size_t n_ret) {
        size_t start = 0;

        while (start < n && strchr(" \t\r\n", text[start]))
                start++;
        while (n > start && strchr(" \t\r\n", text[n - 1]))
                n--;
        n -= start;
        if (n == 0 || n >= n_ret)
                return false;
        for (size_t i = 0; i < n; i++) {
                char c = text[start + i];

                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
                        !(c && strchr("-.:_", c)))
                        return false;
        }
        memcpy(ret, text + start, n);
        ret[n] = '\0';
        return true;
}

static void metadata_on_lifecycle(const ImdsAnswer *answer, void *userdata) {
        Metadata *metadata = userdata;
        MetadataSample *sample = &metadata->sample.metadata;
        char state[64];

        if (answer->error == -ENOENT)
                sample->lifecycle = LIFECYCLE_NO_GROUP;
        else if (answer->error < 0)
                metadata_see(metadata, answer->error);
        else if (metadata_word(answer->text, answer->n, state, sizeof(state)))
                sample->lifecycle = lifecycle_from_string(state);
        else
                metadata_see(metadata, -EBADMSG);
        metadata->lifecycle = imds_call_free(metadata->lifecycle);
        metadata_finish(metadata);
}

static void metadata_on_spot(const ImdsAnswer *answer, void *userdata) {
        Metadata *metadata = userdata;

        /* Not there: no notice. There, whatever it says: one. */
        if (answer->error == 0)
                metadata->sample.metadata.spot_notice = true;
        else if (answer->error != -ENOENT)
                metadata_see(metadata, answer->error);
        metadata->spot = imds_call_free(metadata->spot);
        metadata_finish(metadata);
}

static void metadata_on_timer(Timer *timer, Now now, void *userdata) {
        Metadata *metadata = userdata;
        Span wait = metadata->every;

        if (!metadata->offset)
                wait = wait / 2 + (Span) (loop_random() % (uint64_t) wait);
        metadata->offset = true;
        (void) timer_arm(timer, mono_add(now.mono, wait));
        if (metadata->lifecycle || metadata->spot)
                return;

        metadata->sample = (Sample){ .witness = WITNESS_METADATA, .sight = SIGHT_CLEAR };
        if (imds_get(metadata->imds, "/latest/meta-data/autoscaling/target-lifecycle-state",
                    metadata_on_lifecycle, metadata, &metadata->lifecycle) < 0 ||
                imds_get(metadata->imds, "/latest/meta-data/spot/instance-action", metadata_on_spot,
                        metadata, &metadata->spot) < 0)
                metadata_see(metadata, -EIO);
        metadata_finish(metadata);
}

/* --- Identity --- */

static void identity_on_answer(const ImdsAnswer *answer, void *userdata);

static bool identity_is_whole(const Metadata *metadata) {
        for (size_t i = 0; i < METADATA_PART_N; i++)
                if (!metadata_parts[i].optional && !metadata->settled[i])
                        return false;
        return true;
}

/* Last in its callers, for it may free us. */
static void identity_tell(Metadata *metadata) {
        void (*ready)(void *) = metadata->ready;

        metadata->identity.whole = identity_is_whole(metadata);
        if (!ready || !metadata->identity.whole)
                return;
        metadata->ready = NULL;
        ready(metadata->ready_userdata);
}

/* The end of a pass over the parts: what is missing is asked for again later. */
static void identity_end_pass(Metadata *metadata, Mono now) {
        bool missing = false;

        for (size_t i = 0; i < METADATA_PART_N; i++)
                missing |= !metadata->settled[i];
        if (missing)
                (void) timer_arm(metadata->identity_timer,
                        mono_add(now, backoff_next(&identity_backoff, metadata->attempt++, loop_random())));
        identity_tell(metadata);
}

/* Asks for the next part that is missing, from .part on. Last in its callers. */
static void identity_ask(Metadata *metadata) {
        while (metadata->part < METADATA_PART_N && metadata->settled[metadata->part])
                metadata->part++;
        if (metadata->part < METADATA_PART_N &&
                imds_get(metadata->imds, metadata_parts[metadata->part].path, identity_on_answer, metadata,
                        &metadata->identity_call) == 0)
                return;
        identity_end_pass(metadata, loop_now(metadata->event).mono);
}

static void identity_on_answer(const ImdsAnswer *answer, void *userdata) {
        Metadata *metadata = userdata;
        MetadataPart part = metadata->part;
        int error = answer->error;

        if (error == 0)
                metadata->settled[part] = metadata_word(answer->text, answer->n,
                        (char *) &metadata->identity + metadata_parts[part].offset,
                        metadata_parts[part].size);
        else if (error == -ENOENT && metadata_parts[part].absent)
                metadata->settled[part] = true;
        metadata->identity_call = imds_call_free(metadata->identity_call);

        /* It does not answer at all: no use in asking for the others. */
        if (error != 0 && error != -ENOENT) {
                identity_end_pass(metadata, loop_now(metadata->event).mono);
                return;
        }
        metadata->part++;
        identity_ask(metadata);
}

static void identity_on_timer(Timer *timer, Now now, void *userdata) {
        Metadata *metadata = userdata;

        (void) timer;
        (void) now;
        if (metadata->identity_call)
                return;
        metadata->part = 0;
        identity_ask(metadata);
}

/* --- */

int metadata_new(
        Metadata **ret, sd_event *event, Imds *imds, Span every, SampleHandler handler, void *userdata) {
        _cleanup_(metadata_freep) Metadata *metadata = NULL;
        Mono now;
        int r;

        assert(every > 0);
        assert(handler);

        metadata = calloc(1, sizeof(*metadata));
        if (!metadata)
                return -ENOMEM;
        metadata->event = sd_event_ref(event);
        metadata->imds = imds;
        metadata->every = every;
        metadata->handler = handler;
        metadata->userdata = userdata;
        r = timer_new(&metadata->timer, event, "metadata", SPAN_MSEC(250), metadata_on_timer, metadata);
        if (r < 0)
                return r;
        r = timer_new(
                &metadata->identity_timer, event, "identity", SPAN_MSEC(250), identity_on_timer, metadata);
        if (r < 0)
                return r;
        now = loop_now(event).mono;
        r = timer_arm(metadata->timer, now);
        if (r < 0)
                return r;
        r = timer_arm(metadata->identity_timer, now);
        if (r < 0)
                return r;

        *ret = steal_ptr(metadata);
        return 0;
}

Metadata *metadata_free(Metadata *metadata) {
        if (!metadata)
                return NULL;
        (void) imds_call_free(metadata->lifecycle);
        (void) imds_call_free(metadata->spot);
        (void) imds_call_free(metadata->identity_call);
        (void) timer_free(metadata->timer);
        (void) timer_free(metadata->identity_timer);
        sd_event_unref(metadata->event);
        free(metadata);
        return NULL;
}

const Identity *metadata_identity(const Metadata *metadata) {
        return &metadata->identity;
}

void metadata_on_identity(Metadata *metadata, void (*ready)(void *userdata), void *userdata) {
        metadata->ready = ready;
        metadata->ready_userdata = userdata;
        /* A pass with nothing to ask for only tells. */
        if (metadata->identity.whole && !metadata->identity_call)
                (void) timer_arm(metadata->identity_timer, loop_now(metadata->event).mono);
}

void metadata_soon(Metadata *metadata) {
        if (!metadata->lifecycle && !metadata->spot)
                (void) timer_arm(metadata->timer, loop_now(metadata->event).mono);
}
