/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The daemon: the wiring of observe/, decide/ and act/. */

/** agent_run() - make everything, run until told to stop, tidy up. Return: an exit status. */
int agent_run(void);
