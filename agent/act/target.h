/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Ourselves, as AWS's APIs name us. Texts are "" until known. */

typedef struct Target {
        char cluster[256]; /* short name */
        char arn[256];     /* of the container instance */
        char instance_id[64];
        char zone[64];
        char group[256]; /* Auto Scaling group; "" also when in none */
} Target;
