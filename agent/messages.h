/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Message IDs of the records that an operator might act on. They never change; a new kind of record gets a new one. */

#define MESSAGE_STARTED           "32ff3723d2cb41ac9a58425bfdd2701b" /* the daemon has started */
#define MESSAGE_VERDICT           "e921af107d2c4263a5dbc84847681ef9" /* the verdict has changed */
#define MESSAGE_STAGE             "40fbca678b2e4fe0bdd0d2a8fbcdab2f" /* the remedy has moved to another stage */
#define MESSAGE_HELD              "b31ffac6058a49b4840545af9652e98b" /* brakes hold an incident */
#define MESSAGE_CALL              "767afa6afc904f1697a24e71ce6c1a7c" /* an AWS call of the act path has ended */
#define MESSAGE_REMOVED           "20ab0195ee80477da47a726f31465300" /* this instance was taken out of its group */
#define MESSAGE_SETTINGS_REFUSED  "86855d5d7dfe4587b2ba398bc011eb27" /* the settings file was refused */
#define MESSAGE_SETTINGS_APPLIED  "9754bdd392134cb3b9acbc044d373682" /* new settings are in force */
#define MESSAGE_PAUSED            "8bc374b2fff244a88a660316b9b8edf2" /* somebody paused or resumed this host */
#define MESSAGE_METRICS_FAILING   "497b791d88fa46a59a7550027f76eb01" /* CloudWatch does not take our metrics */
#define MESSAGE_METRICS_RECOVERED "e531c5b5f99a4b969e639b2c95186131" /* CloudWatch takes our metrics again */
#define MESSAGE_JOURNAL_FAILED    "50e1c516e9d8434cbefda00a736bcf21" /* the journal could not be written */
#define MESSAGE_RESTORED          "7ef961ad383c4f58a81b63f6e5a2b2a3" /* an incident was found in the journal */
#define MESSAGE_WITNESS           "55a92fe74fca4121be771882e1a94202" /* a witness has lost or regained its sight */
#define MESSAGE_STACK             "284975e138894514bb713e773436a1c6" /* the stack cannot be read, or can again */
#define MESSAGE_PATROL            "2dcef12442874953b60677d8a2efb558" /* patrol has taken a step at a peer */
#define MESSAGE_ORPHAN            "a759a3dd576a45d4adb41045960fe618" /* the orphan's end: it came, or could not */
