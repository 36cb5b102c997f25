/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the metadata service says of our life: target lifecycle state and spot notice, every @every; and once, at the
 * start and until it is known, who we are.
 */

#include "agent/decide/sample.h"
#include "common/aws-imds.h"

typedef struct Metadata Metadata;

/** Who we are; texts are "" until known. */
typedef struct Identity {
        char instance_id[64];
        char region[64];
        char zone[64];
        char domain[128]; /* services/domain: "amazonaws.com" */
        char instance_type[64];
        bool whole; /* instance_id and region are known; domain is, or is not there */
} Identity;

int metadata_new(
        Metadata **ret, sd_event *event, Imds *imds, Span every, SampleHandler handler, void *userdata);
Metadata *metadata_free(Metadata *metadata);
DEFINE_CLEANUP(Metadata, metadata_free)

/** metadata_identity() - lent; changes only while the loop runs, and never back */
const Identity *metadata_identity(const Metadata *metadata);
/** metadata_on_identity() - have @ready called once, from the loop, when the identity is whole (soon, if it is) */
void metadata_on_identity(Metadata *metadata, void (*ready)(void *userdata), void *userdata);
/** metadata_soon() - ask again at once */
void metadata_soon(Metadata *metadata);
