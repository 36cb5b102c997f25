/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The settings that stand in the CloudFormation stack which made this instance: the object under "ECSHealthAgent" in the
 * Metadata of its own resource, read by DescribeStackResource. First by the instance's identity (Authorization: CFN_V1,
 * which needs no IAM right; source: cfn-bootstrap), then, where that is refused, by the role.
 *
 * Which stack and resource: as set, else from the instance's tags aws:cloudformation:stack-id and
 * aws:cloudformation:logical-id, asked of the metadata service, else of EC2 (DescribeTags).
 *
 * Read at the start and then every max(refresh, 1 s x members of the cluster), +- 50 %; after a failure in 30 s, and
 * twice as long each time up to that. What was good last stays in a file, for the next start.
 */

#include "common/aws-call.h"

#define STACK_KEY        "ECSHealthAgent"
#define STACK_SOURCE     "CloudFormation metadata"
#define STACK_CACHE_FILE "/var/lib/ecs-health-agent/cloudformation.json"
#define STACK_TEXT_MAX   ((size_t) 256 * 1024)

typedef enum StackState {
        STACK_OFF, /* switched off in the settings */
        STACK_WAITING, /* not known yet whether there is a stack, or what it says; settings_compose() must not guess */
        STACK_NONE, /* this instance belongs to no stack, as far as it can know */
        STACK_DENIED, /* neither identity nor role may read it, or there is no such stack or resource; never read */
        STACK_READ, /* .text is what stands there, or stood there when it was last read; "{}" without our key */
} StackState;

const char *stack_state_to_string(StackState state);

/** What is known now. Lent until the loop next runs. */
typedef struct StackView {
        StackState state;
        const char *stack, *resource; /* "" unknown; stack is a name or an ARN */
        const char *text; /* JSON, an object unless somebody wrote another type; NULL unless STACK_READ */
        size_t n_text;
        bool by_role;        /* the last reading was allowed to the role, not to the identity */
        bool from_cache;     /* .state and .text are an earlier process's, and were not asked for since */
        Wall read;           /* when .text was last read; WALL_NEVER */
        Mono next;           /* when it is asked next; MONO_INFINITE: not at all */
        const char *problem; /* what went wrong last, in words, with what to do; "" nothing */
} StackView;

typedef struct Stack Stack;

/** StackNews - state or text have changed; from the loop. It may call stack_keep() and stack_view(), not stack_free(). */
typedef void (*StackNews)(Stack *stack, void *userdata);

/** What comes from the settings. Texts are copied; "" is "not set". */
typedef struct StackSettings {
        bool enabled;
        const char *stack, *resource;
        Span refresh;
} StackSettings;

typedef struct StackOptions {
        Http *http; /* borrowed, as the next two */
        Aws *aws;
        Imds *imds;
        const char *cache; /* path, file_root() applied; copied; NULL: none */
        StackSettings settings;
        StackNews news;
        void *userdata;
} StackOptions;

/**
 * stack_new() - reads the cache; asks nothing before stack_identity()
 *
 * What the cache holds counts (.from_cache) until stack_identity() shows that it is another instance's, as
 * on a machine that was started from a copy of this disk. .news is not called from here: look at stack_view().
 */
int stack_new(Stack **ret, sd_event *event, const StackOptions *options);
Stack *stack_free(Stack *stack);
DEFINE_CLEANUP(Stack, stack_free)

/** stack_identity() - who and where we are is known: ask at a random moment soon. @domain as for aws_endpoint() */
int stack_identity(Stack *stack, const char *instance_id, const char *region, const char *domain);
/** stack_settings() - they have changed; asks anew only if it makes a difference */
int stack_settings(Stack *stack, const StackSettings *settings);
/** stack_size() - members of the cluster, for the pace; 0: not known */
void stack_size(Stack *stack, uint64_t members);
/** stack_read_now() - ask within a few seconds, as on SIGHUP; no-op before stack_identity() */
void stack_read_now(Stack *stack);
/**
 * stack_keep() - what is known now has passed the checks: write it to the cache, also that there is no stack, or that it
 * may not be read. Return: 0; as file_write_atomic().
 */
int stack_keep(Stack *stack);
void stack_view(const Stack *stack, StackView *ret);

/** What a cache file holds, for check-config. */
typedef struct StackCache {
        StackState state;                            /* STACK_READ, STACK_NONE or STACK_DENIED */
        char *instance_id, *stack, *resource, *text; /* owned; .text NULL unless STACK_READ */
        size_t n_text;
        Wall read;
} StackCache;

/** stack_cache_read() - Return: 0; -ENOENT; -EBADMSG: not what stack_keep() writes; what file_read() says */
int stack_cache_read(const char *path, StackCache *ret);
void stack_cache_done(StackCache *cache);

/**
 * stack_parse() - the pure part, for tests and fuzzing: the object under STACK_KEY in a resource's Metadata
 * @metadata: the Metadata text, a JSON object that holds other keys as well; NULL or "": the resource has none
 * @ret:      owned by the caller: JSON text; "{}" when the key is not there
 *
 * Return: 0; -EBADMSG if it is no JSON object or the key holds no object, with @why saying so; -E2BIG; -ENOMEM.
 */
int stack_parse(const char *metadata, size_t n, char **ret, size_t *ret_n, char why[static 128]);
