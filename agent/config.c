/* SPDX-License-Identifier: Apache-2.0 */

/* The sources of the settings, the last good text of each, and what follows from them. */

#include "agent/config.h"

#include <string.h>

#include "agent/messages.h"
#include "common/file-watch.h"
#include "common/file.h"
#include "common/log.h"
#include "common/loop.h"

struct Config {
        sd_event *event;
        Stack *stack;
        FileWatch *watch;
        char *path;
        ConfigChanged changed;
        void *userdata;

        char *file_text, *stack_text; /* the last good ones; NULL: none */
        size_t n_file_text, n_stack_text;
        bool file_unknown;   /* the file is bad, and there was no good one before */
        bool stack_troubled; /* as last logged */
        bool settling;       /* as config_settling() last said to .changed */
        bool stack_unknown;  /* what the stack says is bad or not known, and there was nothing good before */
        OptionProblems file_problems, stack_problems;
        Settings settings;
};

static void log_problems(const OptionProblems *problems, const char *consequence) {
        unsigned kept = problems->n < OPTION_PROBLEMS_MAX ? problems->n : OPTION_PROBLEMS_MAX;

        for (unsigned i = 0; i < kept; i++)
                log_event(LOG_ERR, MESSAGE_SETTINGS_REFUSED, NULL, "%s", problems->text[i]);
        log_event(LOG_ERR, MESSAGE_SETTINGS_REFUSED, NULL, "The settings were refused (%u problem%s); %s.",
                problems->n, problems->n == 1 ? "" : "s", consequence);
}

/* --- composing --------------------------------------------------------------------------------------------------- */

static int compose(const Config *config, const SettingsText *stack, const SettingsText *file,
        Settings *settings, OptionProblems *problems) {
        const char *origins[SETTINGS_ROWS_MAX];
        const SettingsText texts[] = { *stack, *file };
        int r;

        r = settings_compose(texts, ELEMENTSOF(texts), settings, origins, problems);
        if (r < 0)
                return r;
        /* What the file itself says of it is an operator's word that needs no other source. */
        if ((config->file_unknown || config->stack_unknown) &&
                strcmp(settings_origin(origins, "action"), config->path) != 0)
                settings->policy.action = ACTION_OBSERVE;
        return 0;
}

/* By itself as well, so that it still stands when the other source says something else one day, or nothing. */
static int try_text(const Config *config, const SettingsText *text, const SettingsText *stack,
        const SettingsText *file, OptionProblems *problems) {
        Settings settings;
        int r;

        r = settings_compose(text, 1, &settings, NULL, problems);
        return r < 0 ? r : compose(config, stack, file, &settings, problems);
}

static SettingsText file_good(const Config *config) {
        return (SettingsText){ .source = config->path, .text = config->file_text, .n = config->n_file_text };
}

static SettingsText stack_good(const Config *config) {
        return (SettingsText){
                .source = STACK_SOURCE,
                .text = config->stack_text,
                .n = config->n_stack_text,
                .from_stack = true,
        };
}

static bool problems_equal(const OptionProblems *a, const OptionProblems *b) {
        return a->n == b->n && memcmp(a->text, b->text, sizeof(a->text)) == 0;
}

static int text_keep(char **text, size_t *n_text, const char *from, size_t n) {
        char *copy = NULL;

        if (from) {
                copy = malloc(n + 1);
                if (!copy)
                        return -ENOMEM;
                memcpy(copy, from, n);
                copy[n] = '\0';
        }
        free(*text);
        *text = copy;
        *n_text = n;
        return 0;
}

/* Whatever has changed: the good texts are good together, for each was tried by itself and beside the other. */
static int settings_renew(Config *config) {
        const SettingsText file = file_good(config), stack = stack_good(config);
        OptionProblems problems;

        return compose(config, &stack, &file, &config->settings, &problems);
}

static StackSettings settings_of_stack(const Config *config) {
        return (StackSettings){
                .enabled = config->settings.stack_enabled,
                .stack = config->settings.stack,
                .resource = config->settings.stack_resource,
                .refresh = config->settings.stack_refresh,
        };
}

static int settings_announce(Config *config) {
        const StackSettings stack = settings_of_stack(config);
        int r = stack_settings(config->stack, &stack);

        config->settling = config_settling(config);
        return r < 0 ? r : config->changed(config->userdata);
}

static void settings_renew_or_end(Config *config) {
        const Settings before = config->settings;
        int r = settings_renew(config);

        if (r >= 0 &&
                (!settings_equal(&before, &config->settings) || config->settling != config_settling(config)))
                r = settings_announce(config);
        if (r < 0) {
                log_error("New settings could not be applied: %s.", strerror(-r));
                (void) sd_event_exit(config->event, r);
        }
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

/* Return: 0; -EBADMSG: refused, config->file_problems says why; -ENOMEM. */
static int file_read_anew(Config *config, const char *consequence) {
        _cleanup_(freep) char *text = NULL;
        SettingsText file = { .source = config->path };
        const SettingsText stack = stack_good(config);
        static OptionProblems problems; /* too large for comfort on a stack */
        int r;

        r = settings_load(config->path, &text, &file.n, &problems);
        file.text = text;
        if (r >= 0)
                r = try_text(config, &file, &stack, &file, &problems);
        if (r == -EBADMSG && !problems_equal(&problems, &config->file_problems))
                log_problems(&problems, consequence);
        if (r >= 0)
                r = text_keep(&config->file_text, &config->n_file_text, file.text, file.n);
        if (r == -EBADMSG || r >= 0)
                config->file_problems = problems;
        if (r >= 0)
                config->file_unknown = false;
        return r;
}

static void on_file_changed(void *userdata) {
        Config *config = userdata;
        int r;

        r = file_read_anew(config, config->file_unknown ? "what remains is in force, with action: observe"
                                                        : "the last good ones stay in force");
        if (r < 0 && r != -EBADMSG)
                log_warning("The settings could not be read: %s.", strerror(-r));
        if (r >= 0)
                settings_renew_or_end(config);
}

/* --- the stack --------------------------------------------------------------------------------------------------- */

static void stack_remember(Config *config, const StackView *view) {
        int r = view->from_cache ? 0 : stack_keep(config->stack);

        if (r < 0)
                log_warning("What the stack says could not be kept for the next start: %s.", strerror(-r));
}

static void stack_take(Config *config, const StackView *view) {
        const SettingsText file = file_good(config);
        const SettingsText stack = {
                .source = STACK_SOURCE,
                .text = view->text,
                .n = view->n_text,
                .from_stack = true,
        };
        static OptionProblems problems;
        int r;

        r = try_text(config, &stack, &stack, &file, &problems);
        if (r == -EBADMSG) {
                config->stack_unknown = !config->stack_text;
                if (!problems_equal(&problems, &config->stack_problems))
                        log_problems(&problems,
                                config->stack_text ? "the last good metadata stay in force"
                                                   : "the metadata count as absent, with action: observe");
                config->stack_problems = problems;
                return;
        }
        if (r >= 0)
                r = text_keep(&config->stack_text, &config->n_stack_text, view->text, view->n_text);
        if (r < 0) {
                log_warning("The stack's metadata could not be taken over: %s.", strerror(-r));
                return;
        }
        config->stack_unknown = false;
        config->stack_problems.n = 0;
        stack_remember(config, view);
}

static void stack_look(Config *config) {
        StackView view;

        stack_view(config->stack, &view);
        switch (view.state) {
        case STACK_READ: stack_take(config, &view); return;
        case STACK_WAITING: config->stack_unknown = true; break;
        case STACK_OFF:
        case STACK_NONE:
        case STACK_DENIED:
                config->stack_unknown = false;
                stack_remember(config, &view);
                break;
        }
        config->stack_problems.n = 0;
        /* What was read before belonged to another instance, or to another stack. */
        (void) text_keep(&config->stack_text, &config->n_stack_text, NULL, 0);
}

/* Edges only: while it lasts, the words change now and then, and status has them. */
static void log_trouble(Config *config) {
        StackView view;

        stack_view(config->stack, &view);
        if (config->stack_troubled == (view.problem[0] != '\0'))
                return;
        config->stack_troubled = view.problem[0] != '\0';
        if (config->stack_troubled)
                log_event(config_misses_stack(&view, &config->settings) ? LOG_WARNING : LOG_INFO,
                        MESSAGE_STACK, NULL, "%s%s", view.problem,
                        view.state == STACK_WAITING
                                ? ". Until it is known what the stack says, action is observe."
                        : view.state == STACK_READ ? ". What was read last stays in force."
                                                   : ".");
        else
                log_event(LOG_NOTICE, MESSAGE_STACK, NULL, "The stack's metadata can be read again.");
}

static void on_stack_news(Stack *stack, void *userdata) {
        Config *config = userdata;

        (void) stack;
        log_trouble(config);
        stack_look(config);
        settings_renew_or_end(config);
}

/* --- questions --------------------------------------------------------------------------------------------------- */

const Settings *config_settings(const Config *config) {
        return &config->settings;
}

const OptionProblems *config_problems(const Config *config) {
        return config->file_problems.n > 0 ? &config->file_problems : &config->stack_problems;
}

bool config_has_error(const Config *config) {
        StackView view;

        stack_view(config->stack, &view);
        return config_problems(config)->n > 0 || config_misses_stack(&view, &config->settings);
}

const char *config_path(const Config *config) {
        return config->path;
}

void config_stack(const Config *config, StackView *ret) {
        stack_view(config->stack, ret);
}

bool config_misses_stack(const StackView *stack, const Settings *settings) {
        return stack->problem[0] != '\0' &&
               (stack->state == STACK_WAITING ||
                       ((stack->state == STACK_DENIED || stack->state == STACK_NONE) &&
                               settings->stack[0] != '\0'));
}

bool config_settling(const Config *config) {
        StackView view;

        stack_view(config->stack, &view);
        return view.state == STACK_WAITING && view.problem[0] == '\0';
}

int config_read(const char *path, Settings *settings, const char **origins, OptionProblems *problems,
        StackCache *cache) {
        _cleanup_(freep) char *text = NULL, *cache_path = NULL;
        SettingsText texts[] = { { .source = STACK_SOURCE, .from_stack = true }, { .source = path } };
        int r;

        *cache = (StackCache){};
        r = settings_load(path, &text, &texts[1].n, problems);
        texts[1].text = text;
        if (r >= 0)
                r = settings_compose(&texts[1], 1, settings, origins, problems);
        if (r < 0 || !settings->stack_enabled)
                return r;
        if (file_root(STACK_CACHE_FILE, &cache_path) < 0 || stack_cache_read(cache_path, cache) < 0)
                return 0;
        texts[0].text = cache->text;
        texts[0].n = cache->n_text;
        return settings_compose(texts, ELEMENTSOF(texts), settings, origins, problems);
}

/* --- the way to AWS ---------------------------------------------------------------------------------------------- */

static const char *proxy_variable(const char *upper, const char *lower) {
        const char *value = getenv(upper);

        if (!value || value[0] == '\0')
                value = getenv(lower);
        return value && value[0] != '\0' ? value : NULL;
}

bool config_http(const SettingsEcs *ecs, HttpOptions *ret) {
        bool theirs;

        *ret = (HttpOptions){
                .ca_bundle = getenv("AWS_CA_BUNDLE"),
                .https_proxy = proxy_variable("HTTPS_PROXY", "https_proxy"),
                .no_proxy = proxy_variable("NO_PROXY", "no_proxy"),
                .user_agent = "ecs-health-agent/" ECS_HEALTH_AGENT_VERSION,
        };
        theirs = !ret->https_proxy && ecs->https_proxy[0] != '\0';
        if (theirs)
                ret->https_proxy = ecs->https_proxy;
        if (theirs && !ret->no_proxy && ecs->no_proxy[0] != '\0')
                ret->no_proxy = ecs->no_proxy;
        return theirs;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

int config_identity(Config *config, const char *instance_id, const char *region, const char *domain) {
        return stack_identity(config->stack, instance_id, region, domain);
}

void config_members(Config *config, uint64_t members) {
        stack_size(config->stack, members);
}

void config_reload(Config *config) {
        on_file_changed(config);
        stack_read_now(config->stack);
}

static int make_stack(Config *config, const ConfigOptions *options) {
        const StackOptions stack = {
                .http = options->http,
                .aws = options->aws,
                .imds = options->imds,
                .cache = options->cache,
                .settings = settings_of_stack(config),
                .news = on_stack_news,
                .userdata = config,
        };

        return stack_new(&config->stack, config->event, &stack);
}

int config_new(Config **ret, sd_event *event, const ConfigOptions *options) {
        _cleanup_(config_freep) Config *config = calloc(1, sizeof(*config));
        const bool terminal = isatty(STDERR_FILENO) != 0 && !getenv("NOTIFY_SOCKET");
        int r;

        if (!config)
                return -ENOMEM;
        config->event = sd_event_ref(event);
        config->changed = options->changed;
        config->userdata = options->userdata;
        config->path = strdup(options->path);
        if (!config->path)
                return -ENOMEM;

        /* By itself first: whatever the stack may say, the file tells whether it is to be asked, and which one. */
        config->file_unknown = true;
        r = file_read_anew(
                config, terminal ? "nothing was started" : "what remains is in force, with action: observe");
        if (r == -EBADMSG && terminal)
                return r;
        if (r < 0 && r != -EBADMSG)
                return r;
        r = settings_renew(config);
        if (r < 0)
                return r;
        r = make_stack(config, options);
        if (r < 0)
                return r;
        stack_look(config);
        r = settings_renew(config);
        if (r < 0)
                return r;
        config->settling = config_settling(config);
        r = file_watch_new(&config->watch, event, config->path, on_file_changed, config);
        if (r < 0)
                return r;

        *ret = steal_ptr(config);
        return 0;
}

Config *config_free(Config *config) {
        if (!config)
                return NULL;
        file_watch_free(config->watch);
        stack_free(config->stack);
        sd_event_unref(config->event);
        free(config->path);
        free(config->file_text);
        free(config->stack_text);
        free(config);
        return NULL;
}
