/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Credentials: from the environment, else those of the instance role. The role's are re-read 10 to 15 minutes before
 * they expire. Static stability, as the SDKs have it: when the metadata service fails or hands out expired ones, the
 * last ones are kept in use and asked for again in 5 to 15 minutes; whether they still count is the service's to say.
 */

#include "common/aws-imds.h"

typedef struct AwsCredentials AwsCredentials;

/** A set of keys, lent until the loop next runs. */
typedef struct AwsKeys {
        const char *access_key_id, *secret_access_key;
        const char *session_token; /* NULL: none */
} AwsKeys;

typedef enum AwsCredentialsState {
        AWS_CREDENTIALS_UNKNOWN, /* not asked yet */
        AWS_CREDENTIALS_GOOD,
        AWS_CREDENTIALS_STALE,   /* in use, but could not be renewed when they should have been */
        AWS_CREDENTIALS_NO_ROLE, /* the instance has no role, or it cannot be assumed */
        AWS_CREDENTIALS_FAILED,  /* never had any, and the metadata service does not answer */
} AwsCredentialsState;

int aws_credentials_new(AwsCredentials **ret, sd_event *event, Imds *imds);
AwsCredentials *aws_credentials_free(AwsCredentials *credentials);
DEFINE_CLEANUP(AwsCredentials, aws_credentials_free)

/** aws_credentials_get() - what is in hand. Return: 0; -EAGAIN if there is nothing yet (a fetch is then under way). */
int aws_credentials_get(AwsCredentials *credentials, AwsKeys *ret);
/** aws_credentials_refresh() - re-read soon: a service called them expired. At most one fetch a minute. */
void aws_credentials_refresh(AwsCredentials *credentials);
/** aws_credentials_wait() - have @ready called once, from the loop, when the fetch under way has ended either way */
void aws_credentials_wait(AwsCredentials *credentials, void (*ready)(void *userdata), void *userdata);
void aws_credentials_unwait(AwsCredentials *credentials, void *userdata);

AwsCredentialsState aws_credentials_state(const AwsCredentials *credentials);
/** aws_credentials_detail() - a sentence for status: role name, expiry, or what went wrong. Lent. */
const char *aws_credentials_detail(const AwsCredentials *credentials);
