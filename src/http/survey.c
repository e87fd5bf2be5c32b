/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How many nodes have it whole, and who lacks it: GET /wait/PATH, which waits until enough have it.
 */

#include "node/survey.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "http/awaited.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "locate/locate.h"

#define WAIT_S_MAX (SURVEY_WAIT_MS_MAX / 1000)
/* So many of those that lack it are told. */
#define LACKING_MAX 1000u
#define QUORUM_DECIMALS 4u

struct survey_wait {
    struct awaited awaited;
    bool is_of_followers;
    int err;
    struct survey_result result;
    struct survey_member *members;
};

static void free_waiting(struct survey_wait *waiting)
{
    free(waiting->members);
    free(waiting);
}

/* On the fetch thread. */
static void surveyed(void *context, int err, const struct survey_result *result)
{
    struct survey_wait *waiting = context;
    awaited_lock(&waiting->awaited);
    waiting->err = err;
    if (result) {
        waiting->result = *result;
        waiting->members = mem_alloc_array(result->members_count + 1, sizeof *waiting->members);
        for (size_t i = 0; i < result->members_count; i++) {
            waiting->members[i] = result->members[i];
        }
    }
    if (awaited_told(&waiting->awaited)) {
        free_waiting(waiting);
    }
}

/* "99", "99.5" or "99.5%", above 0 and at most 100, as parts of a million. */
static int parse_quorum(const char *text, uint32_t *ret_ppm)
{
    uint64_t ppm = 0;
    unsigned digits = 0;
    unsigned decimals = 0;
    bool is_behind = false;
    for (; *text && strcmp(text, "%") != 0; text++) {
        if (*text == '.' && !is_behind && digits > 0) {
            is_behind = true;
            continue;
        }
        if (*text < '0' || *text > '9' || decimals == QUORUM_DECIMALS || ++digits > 7) {
            return -EINVAL;
        }
        ppm = 10 * ppm + (uint64_t)(*text - '0');
        decimals += is_behind;
    }
    for (; decimals < QUORUM_DECIMALS; decimals++) {
        ppm *= 10;
    }
    if (digits == 0 || ppm == 0 || ppm > SURVEY_PPM) {
        return -EINVAL;
    }
    *ret_ppm = (uint32_t)ppm;
    return 0;
}

static bool read_options(struct request *request, struct survey_options *ret_options)
{
    uint64_t wait_s = 0;
    const char *quorum = request_parameter(request, "quorum");
    *ret_options = (struct survey_options){
        .path = request->path,
        .zone = request_parameter(request, "zone"),
        .is_of_followers = request_switch(request, "followers"),
    };
    if (request_number(request, "wait", 0, WAIT_S_MAX, 0, &wait_s) ||
        request_number(request, "nodes", 1, LOCATE_MEMBERS_MAX, 0, &ret_options->nodes_count) ||
        (quorum && parse_quorum(quorum, &ret_options->quorum_ppm))) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "nodes is a number up to %u, quorum a percentage as 99.5%%, wait a number of "
                     "seconds up to %u",
                     LOCATE_MEMBERS_MAX, (unsigned)WAIT_S_MAX);
        return false;
    }
    ret_options->wait_ms = wait_s * 1000;
    return true;
}

static void begin_wait(struct request *request)
{
    struct survey_options options;
    if (!read_options(request, &options)) {
        return;
    }
    struct survey_wait *waiting = mem_alloc(sizeof *waiting);
    awaited_init(&waiting->awaited, request);
    awaited_ask(&waiting->awaited, 1);
    waiting->is_of_followers = options.is_of_followers;
    request->state = waiting;
    survey_begin(network_fetch(request->server->options.network), &options, surveyed, waiting);
}

/* ---- the answer --------------------------------------------------------------------------------
 */

static const char *why(enum survey_outcome outcome)
{
    switch (outcome) {
    case SURVEY_WHOLE:
        return "whole";
    case SURVEY_PART:
        return "part";
    case SURVEY_OTHER:
        return "behind";
    case SURVEY_BUSY:
        return "busy";
    case SURVEY_SILENT:
        return "silent";
    case SURVEY_NO_FOLLOWER:
        return "no_follower";
    case SURVEY_NOT_LANDED:
        return "not_landed";
    case SURVEY_OLDER:
        return "older";
    case SURVEY_UNREACHABLE:
        break;
    }
    return "unreachable";
}

static void set_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

static json_t *json_of_lacking(const struct known *known, const struct survey_member *member,
                               bool is_of_followers)
{
    json_t *object = known_json(known, &member->id);
    json_object_set_new(object, "why", json_string(why(member->outcome)));
    const struct member_info *info = known_find(known, &member->id);
    if (member->outcome == SURVEY_UNREACHABLE && info) {
        char since[FIELD_TIME_BYTES];
        field_time_format(info->since_ms * 1000000, since);
        json_object_set_new(object, "since", json_string(since));
    }
    if (is_of_followers) {
        set_number(object, "followed", member->followed_count);
    }
    if (member->outcome == SURVEY_PART) {
        const char *state =
            member->state ? fetch_state_name((enum fetch_state)member->state) : "idle";
        json_object_set_new(object, "state", json_string(state));
        set_number(object, "files", member->whole_count);
        set_number(object, "here", member->here_bytes);
        set_number(object, "rate", member->rate_bytes_per_second);
        if (member->rate_bytes_per_second > 0) {
            set_number(object, "left_s",
                       (member->length_bytes - member->here_bytes) / member->rate_bytes_per_second);
        }
    }
    return object;
}

static void answer_result(struct request *request, const struct survey_wait *waiting)
{
    const struct survey_result *result = &waiting->result;
    const struct survey_measure *measure = &result->measure;
    CLEANUP_KNOWN struct known known;
    known_init(&known, request->server->options.network);
    json_t *body = json_object();
    json_object_set_new(body, "path", json_of_bytes(request->path));
    json_object_set_new(body, "type", json_string(measure->is_file ? "file" : "directory"));
    if (measure->is_file) {
        json_object_set_new(body, "id", json_of_id(&measure->file));
    }
    json_object_set_new(body, "digest", json_of_id(&measure->digest));
    set_number(body, "files", measure->files_count);
    set_number(body, "length", measure->length_bytes);
    if (waiting->is_of_followers) {
        json_object_set_new(body, "followers", json_true());
    }
    json_object_set_new(body, "reached", json_boolean(result->is_reached));
    json_object_set_new(body, "replaced", json_boolean(result->is_replaced));
    set_number(body, "members", result->members_count);
    set_number(body, "wanted", result->wanted_count);
    set_number(body, "have", result->have_count);
    json_t *lacking = json_array();
    for (size_t i = 0; i < result->members_count; i++) {
        if (waiting->members[i].outcome != SURVEY_WHOLE && json_array_size(lacking) < LACKING_MAX) {
            json_array_append_new(
                lacking, json_of_lacking(&known, &waiting->members[i], waiting->is_of_followers));
        }
    }
    json_object_set_new(body, "lacking", lacking);
    answer_json(request, MHD_HTTP_OK, body);
}

static void answer_told(struct request *request, const struct survey_wait *waiting)
{
    switch (waiting->err) {
    case 0:
        answer_result(request, waiting);
        break;
    case -EBUSY:
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "%u requests ask all members already", SURVEYS_MAX);
        break;
    case -EFBIG:
        answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, "too_large", "more than %u files",
                     SURVEY_FILES_MAX);
        break;
    case -ECANCELED:
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the node ends");
        break;
    default:
        answer_failure(request, waiting->err);
    }
}

static void go_on(struct request *request)
{
    struct survey_wait *waiting = request->state;
    enum wait_outcome outcome = WAIT_AGAIN;
    while (outcome == WAIT_AGAIN) {
        if (awaited_look(&waiting->awaited)) {
            answer_told(request, waiting);
            return;
        }
        outcome = awaited_sleep(&waiting->awaited, request);
    }
    if (outcome == WAIT_OVER) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the node ends");
    }
}

static void done(struct request *request)
{
    struct survey_wait *waiting = request->state;
    bool is_told = false;
    awaited_leave(&waiting->awaited, &is_told);
    if (!is_told) {
        survey_cancel(network_fetch(request->server->options.network), waiting);
    }
    if (awaited_end(&waiting->awaited)) {
        free_waiting(waiting);
    }
}

static const char *const parameters[] = {"nodes", "quorum", "zone", "followers", "wait", NULL};

const struct endpoint endpoint_wait = {
    .method = "GET",
    .prefix = "/wait",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin_wait,
    .end = go_on,
    .resumed = go_on,
    .done = done,
};
