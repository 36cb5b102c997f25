/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where an installed cJSON has its header. */
#include <cJSON.h>
