/* SPDX-License-Identifier: Apache-2.0 */

/* Everything is a command. */

#include "agent/commands.h"

int main(int argc, char **argv) {
        return command_main(argc, argv);
}
