/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The command `doctor`: everything that a bad day would need is tried now, harmlessly, and each finding comes with its
 * fix. Checks run at the same time; one that rests on another waits for it and is skipped if that one has failed, so
 * that one fault is one finding.
 *
 * doctor.c has the table of checks and the run; doctor-host.c the checks of this host, doctor-cloud.c those of the
 * metadata service and of AWS, doctor-alarms.c that of the account's alarms; doctor-read.c reads texts; doctor-service.c
 * takes the place of the service.
 */

#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "agent/decide/look.h"
#include "agent/settings.h"
#include "common/aws-call.h"
#include "common/loop.h"

#define DOCTOR_SERVICE_USER     "ecs-health-agent"
#define DOCTOR_ENVIRONMENT_FILE "/etc/sysconfig/ecs-health-agent"
#define DOCTOR_POLKIT_RULE      "/usr/share/polkit-1/rules.d/50-ecs-health-agent.rules"

typedef enum CheckId {
        CHECK_SETTINGS,
        CHECK_DAEMON,
        CHECK_METADATA,
        CHECK_REGION,
        CHECK_ROLE,
        CHECK_PROXY,
        CHECK_ENDPOINTS,
        CHECK_CLOCK,
        CHECK_RIGHTS, /* and one for each further Right */
        CHECK_INTROSPECTION = CHECK_RIGHTS + RIGHT_N,
        CHECK_AGENT_LOG,
        CHECK_SOCKETS,
        CHECK_DOCKER,
        CHECK_UNITS,
        CHECK_POLKIT,
        CHECK_PSI,
        CHECK_MEMORY_LOCK,
        CHECK_CLOUDFORMATION,
        CHECK_ALARMS,
        CHECK_ROLE_EXPOSURE,
} CheckId;
#define CHECK_N (CHECK_ROLE_EXPOSURE + 1)

typedef enum CheckState {
        CHECK_PENDING, /* waits for others */
        CHECK_RUNNING,
        CHECK_OK,
        CHECK_PROBLEM,
        CHECK_SKIPPED,
} CheckState;

#define CHECK_TEXT_MAX 768

typedef struct CheckResult {
        CheckState state;
        CheckId because;            /* of a skipped one that rests on a failed one; CHECK_N: of none */
        char found[CHECK_TEXT_MAX]; /* printable ASCII, as the next one */
        char fix[CHECK_TEXT_MAX];   /* "" unless it is a problem */
} CheckResult;

/** What of the ECS agent's settings the checks want; read before the rights of root are given up. */
typedef struct EcsFacts {
        char log_driver[64], log_level[32], log_level_on_instance[32];
        char proxy[512], no_proxy[1024]; /* proxy: "" none; may hold a password */
        bool https_named;                /* it is HTTPS_PROXY, which HTTP_PROXY does not override */
        bool block_imds;                 /* ECS_AWSVPC_BLOCK_IMDS */
} EcsFacts;

typedef struct DoctorHost DoctorHost;
typedef struct DoctorCloud DoctorCloud;

typedef struct Doctor {
        sd_event *event;
        Helper *helper;
        Http *http;
        Imds *imds;
        AwsCredentials *credentials;
        Aws *aws;
        Timer *deadline;
        sd_event_source *advance;
        bool progress; /* tell on a terminal how far it is */
        CheckResult results[CHECK_N];

        Settings settings;
        EcsFacts ecs;
        struct ucred daemon; /* .pid 0: it does not run, or cannot be asked */
        int daemon_error;    /* of asking it: 0, or a negative errno */
        cJSON *status;       /* what it says; NULL unless daemon_error is 0 */
        uid_t service;       /* whom the service runs as; our own where it is not known */
        int polkit;          /* to the process that asks polkit as root; -1: there is none */
        bool proxy_refused;  /* the proxy's address is none */
        bool proxy_dead;

        /* Who we are; "" is not known. */
        char instance_id[64], cluster[256], arn[256], group[256];
        bool member; /* whether there is a group has been asked, and answered */

        DoctorHost *host;
        DoctorCloud *cloud;
} Doctor;

/* The end of a check. A problem is followed by its fix; texts are made printable. Never a secret. */
void check_ok(Doctor *doctor, CheckId id, const char *format, ...) __attribute__((format(printf, 3, 4)));
void check_problem(Doctor *doctor, CheckId id, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void check_fix(Doctor *doctor, CheckId id, const char *format, ...) __attribute__((format(printf, 3, 4)));
void check_skip(Doctor *doctor, CheckId id, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** check_skip_for() - it rests on @because, which has failed or was skipped itself */
void check_skip_for(Doctor *doctor, CheckId id, CheckId because);
/** check_failed() - ours, not the host's: out of memory and the like */
void check_failed(Doctor *doctor, CheckId id, int error);
bool check_is_running(const Doctor *doctor, CheckId id);

/* How checks start; each ends at once or from the loop. */
void host_daemon(Doctor *doctor, CheckId id);
void host_introspection(Doctor *doctor, CheckId id);
void host_agent_log(Doctor *doctor, CheckId id);
void host_sockets(Doctor *doctor, CheckId id);
void host_docker(Doctor *doctor, CheckId id);
void host_units(Doctor *doctor, CheckId id);
void host_polkit(Doctor *doctor, CheckId id);
void host_psi(Doctor *doctor, CheckId id);
void host_memory_lock(Doctor *doctor, CheckId id);
void host_cloudformation(Doctor *doctor, CheckId id);
int doctor_host_new(DoctorHost **ret);
DoctorHost *doctor_host_free(DoctorHost *host);

void cloud_metadata(Doctor *doctor, CheckId id);
void cloud_region(Doctor *doctor, CheckId id);
void cloud_role(Doctor *doctor, CheckId id);
void cloud_proxy(Doctor *doctor, CheckId id);
void cloud_endpoints(Doctor *doctor, CheckId id);
void cloud_clock(Doctor *doctor, CheckId id);
void cloud_right(Doctor *doctor, CheckId id);
void cloud_role_exposure(Doctor *doctor, CheckId id);
/** cloud_keys_refused() - AWS does not take the role's keys: that is the role's finding, and nobody else's */
void cloud_keys_refused(Doctor *doctor, const char *code);
/** cloud_serves() - whether the endpoint of @service has answered */
bool cloud_serves(const Doctor *doctor, AwsService service);
int doctor_cloud_new(DoctorCloud **ret);
DoctorCloud *doctor_cloud_free(DoctorCloud *cloud);

typedef struct Alarms Alarms;
void alarms_start(Doctor *doctor, CheckId id);
Alarms *alarms_free(Alarms *alarms);
/** cloud_alarms() - where the check of the alarms keeps its state */
Alarms **cloud_alarms(Doctor *doctor);

/** service_environment() - put what the unit would put into the environment there, where it is not set yet */
void service_environment(void);
/** service_variable() - of the environment, by the one name or the other; NULL if it is not set or empty. @lower may be NULL. */
const char *service_variable(const char *upper, const char *lower);
/** service_peer() - who listens at the Unix socket @path. Return: 0; as status_fetch(). */
int service_peer(const char *path, struct ucred *ret);
/**
 * service_become() - as root: take the ids and groups of the running daemon, else those of the service's user
 *
 * A process that is still root stays behind, behind doctor->polkit, to ask polkit, which answers others less.
 * Return: 0, also where there is nothing to become; what the system calls say.
 */
int service_become(Doctor *doctor);

/** The answer that comes from there. */
typedef struct PolkitAnswer {
        bool asked, authorized;
        char problem[256]; /* "" unless it could not be asked; D-Bus's words */
} PolkitAnswer;

/** The question that goes there. */
typedef struct PolkitQuestion {
        pid_t pid;
        char unit[256];
} PolkitQuestion;

/* Readers of texts: pure, for tests. */

/** ecs_facts_read() - overlay what @text, an ecs.config, says; @text is wiped */
void ecs_facts_read(char *text, EcsFacts *facts);
/** ecs_log_hidden() - why the agent's log lacks what we look for; NULL if it does not. @ret_fix: what to set. */
const char *ecs_log_hidden(const EcsFacts *facts, const char **ret_fix);
/** proxy_exempts_metadata() - whether a NO_PROXY list keeps 169.254.169.254 from going through the proxy */
bool proxy_exempts_metadata(const char *list);
/** proxy_public() - the address of a proxy without user and password. Return: @buffer. */
char *proxy_public(const char *proxy, char *buffer, size_t n_buffer);
/** limits_memory_lock() - "Max locked memory" of a /proc/PID/limits; UINT64_MAX: unlimited. Return: 0; -EBADMSG. */
int limits_memory_lock(const char *text, uint64_t *ret);
/** process_groups() - "Groups:" of a /proc/PID/status. Return: 0; -EBADMSG; -E2BIG. */
int process_groups(const char *text, gid_t *groups, size_t n_groups, size_t *ret_n);
/** process_start() - when it was started, as polkit wants it, of a /proc/PID/stat. Return: 0; -EBADMSG. */
int process_start(const char *text, uint64_t *ret);
/** text_printable() - make @text printable ASCII in place */
void text_printable(char *text);

/** One dimension of an alarm. */
typedef struct AlarmDimension {
        const char *name, *value;
} AlarmDimension;

typedef enum AlarmVerdict {
        ALARM_FINE,        /* such a series is published */
        ALARM_SOMETIMES,   /* such a series is published while it has something to say */
        ALARM_NO_METRIC,   /* no metric has this name */
        ALARM_NO_SET,      /* it is never published with these dimensions */
        ALARM_NO_INSTANCE, /* metrics.per_instance is never */
} AlarmVerdict;

/** alarm_judge() - by names alone; @per_instance: PerInstance. @ret_nearest: ALARM_NO_METRIC: the metric that may be meant, or NULL */
AlarmVerdict alarm_judge(const char *metric, const AlarmDimension *dimensions, size_t n,
        unsigned per_instance, const char **ret_nearest);
