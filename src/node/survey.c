/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who asks. A survey goes in rounds: this node measures what it has itself, which tells what is
 * asked for; then all others that are not known to have it are asked; a round is over when all have
 * answered, or after ROUND_US. Between two is a pause that grows with the number of members and
 * with how long the last round took, so that asking takes a small part of everybody's time.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "node/fetch_priv.h"
#include "node/network_priv.h"
#include "node/survey_priv.h"
#include "wire/path.h"

#define MS ((uint64_t)1000)
/* Who has not answered by then is silent. Others take about as long to look as this node does. */
#define ROUND_US (2000 * MS)
#define ROUND_TIMES 4u
#define PAUSE_US (200 * MS)
#define PAUSE_US_A_MEMBER (1 * MS)
/* A round of some milliseconds is followed by a pause of so many times that. */
#define PAUSE_TIMES 4u
/* Asked at once; when all of them have answered, or after a while, so many others. */
#define ASK_AT_ONCE 64u
#define ASK_MORE_US (250 * MS)

enum phase { PHASE_MEASURING, PHASE_ASKING, PHASE_PAUSING, PHASE_OVER };

struct asked {
    struct survey_member told;
    bool is_waiting; /* asked in this round */
    bool is_done;    /* in this round, or for good */
};

struct survey {
    struct fetch_news news; /* on its way to the thread, and back */
    struct buf path;
    char *zone;
    struct survey_options options;
    survey_done_fn done;
    void *context;
    int err;

    uint64_t number; /* of the round: answers to an earlier one are late */
    enum phase phase;
    uint64_t until_us;
    uint64_t due_us;
    uint64_t again_us; /* the next round */
    uint64_t round_us; /* when it began */
    uint64_t end_us;   /* when those that have not answered are silent */
    uint64_t more_us;
    size_t window;
    bool is_measured;
    struct survey_result result;
    struct asked *members;
    size_t members_count;
    size_t next_asked;
    size_t waiting_count;
    struct survey *next;
};

static void step(struct fetch *fetch, struct survey *survey);

/* ---- the end -----------------------------------------------------------------------------------
 */

static void run_told(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct survey *survey = CONTAINER_OF(news, struct survey, news);
    if (survey->err) {
        survey->done(survey->context, survey->err, NULL);
    } else {
        struct survey_member *members = mem_alloc_array(survey->members_count + 1, sizeof *members);
        for (size_t i = 0; i < survey->members_count; i++) {
            members[i] = survey->members[i].told;
        }
        survey->result.members = members;
        survey->result.members_count = survey->members_count;
        survey->done(survey->context, 0, &survey->result);
        free(members);
    }
    free(survey->members);
    free(survey->zone);
    buf_done(&survey->path);
    free(survey);
}

static void tell(struct fetch *fetch, struct survey *survey, int err)
{
    survey->err = err;
    survey->news.run = run_told;
    fetch_later(fetch, &survey->news);
}

static void end(struct fetch *fetch, struct survey *survey, int err)
{
    survey->phase = PHASE_OVER;
    LL_DELETE(fetch->surveys, survey);
    fetch->surveys_count--;
    tell(fetch, survey, err);
}

/* ---- members -----------------------------------------------------------------------------------
 */

static struct asked *find_asked(struct asked *members, size_t count, const struct node_id *id)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = node_id_compare(&members[middle].told.id, id);
        if (order == 0) {
            return &members[middle];
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return NULL;
}

static bool is_counted(const struct survey *survey, const struct member_info *info)
{
    return info->version.status != MEMBER_LEFT &&
           (!survey->zone || strcmp(survey->zone, info->zone) == 0);
}

/* Those that there are now; what is known of them stays known. */
static void find_members(struct fetch *fetch, struct survey *survey)
{
    struct member_info *infos = NULL;
    const size_t count = network_members(fetch->network, &infos);
    struct asked *members = mem_alloc_array(count + 1, sizeof *members);
    size_t members_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_counted(survey, &infos[i])) {
            continue;
        }
        struct asked *member = &members[members_count++];
        const struct asked *known =
            find_asked(survey->members, survey->members_count, &infos[i].id);
        *member = known ? *known : (struct asked){.told = {.id = infos[i].id}};
        member->is_waiting = false;
        member->is_done = known && known->told.outcome == SURVEY_WHOLE;
        const bool is_alive = infos[i].is_self || infos[i].version.status == MEMBER_ALIVE;
        if (!is_alive) {
            member->told.outcome = SURVEY_UNREACHABLE;
            member->is_done = true;
        } else if (!member->is_done) {
            member->told.outcome = SURVEY_SILENT;
        }
    }
    free(infos);
    free(survey->members);
    survey->members = members;
    survey->members_count = members_count;
}

static void count_members(struct survey *survey)
{
    size_t have = 0;
    for (size_t i = 0; i < survey->members_count; i++) {
        have += survey->members[i].told.outcome == SURVEY_WHOLE;
    }
    const struct survey_options *options = &survey->options;
    uint64_t wanted = options->nodes_count;
    const uint64_t part =
        ((uint64_t)survey->members_count * options->quorum_ppm + SURVEY_PPM - 1) / SURVEY_PPM;
    wanted = part > wanted ? part : wanted;
    if (options->nodes_count == 0 && options->quorum_ppm == 0) {
        wanted = survey->members_count;
    }
    survey->result.wanted_count = wanted > 0 ? (size_t)wanted : 1;
    survey->result.have_count = have;
    survey->result.is_reached = have >= survey->result.wanted_count;
}

/* Of a node that has these files in its tree, if followers are asked for. */
static enum survey_outcome outcome_of_followers(const struct keep_survey *survey)
{
    const bool is_whole = survey->extent == KEEP_EXTENT_WHOLE;
    if (is_whole && survey->is_older) {
        return SURVEY_OLDER;
    }
    if (is_whole && survey->followed_count == survey->files_count) {
        return SURVEY_WHOLE;
    }
    if (survey->followed_count > 0 || survey->has_follower) {
        return is_whole ? SURVEY_NOT_LANDED : SURVEY_PART;
    }
    /* What comes may come for a follower that has nothing yet. */
    return is_whole || (survey->state == KEEP_STATE_IDLE && !survey->is_older) ? SURVEY_NO_FOLLOWER
                                                                               : SURVEY_PART;
}

static void take_answer(const struct survey *by, struct asked *member,
                        const struct keep_survey *survey)
{
    static const enum survey_outcome outcomes[] = {
        [KEEP_EXTENT_WHOLE] = SURVEY_WHOLE,
        [KEEP_EXTENT_PART] = SURVEY_PART,
        [KEEP_EXTENT_OTHER] = SURVEY_OTHER,
        [KEEP_EXTENT_BUSY] = SURVEY_BUSY,
    };
    static const int states[] = {
        [KEEP_STATE_IDLE] = 0,
        [KEEP_STATE_SEARCHING] = FETCH_SEARCHING,
        [KEEP_STATE_RUNNING] = FETCH_RUNNING,
        [KEEP_STATE_NO_SPACE] = FETCH_NO_SPACE,
        [KEEP_STATE_COMMITTING] = FETCH_COMMITTING,
    };
    const struct node_id id = member->told.id;
    const bool has_files =
        survey->extent == KEEP_EXTENT_WHOLE || survey->extent == KEEP_EXTENT_PART;
    member->is_waiting = false;
    member->is_done = true;
    member->told = (struct survey_member){
        .id = id,
        .outcome = by->options.is_of_followers && has_files ? outcome_of_followers(survey)
                                                            : outcomes[survey->extent],
        .state = states[survey->state],
        .files_count = survey->files_count,
        .whole_count = survey->whole_count,
        .followed_count = survey->followed_count,
        .length_bytes = survey->length_bytes,
        .here_bytes = survey->here_bytes,
        .rate_bytes_per_second = survey->rate_bytes_per_second,
    };
}

/* ---- rounds ------------------------------------------------------------------------------------
 */

static struct survey *find_survey(const struct fetch *fetch, uint64_t number)
{
    struct survey *survey;
    LL_FOREACH(fetch->surveys, survey)
    {
        if (survey->number == number) {
            return survey;
        }
    }
    return NULL;
}

static void measured(struct fetch *fetch, uint64_t number, int err,
                     const struct survey_measure *measure, const struct keep_survey *own)
{
    struct survey *survey = find_survey(fetch, number);
    if (!survey) {
        return;
    }
    if (err) {
        end(fetch, survey, err);
        return;
    }
    if (survey->is_measured && !id_equal(&survey->result.measure.digest, &measure->digest)) {
        survey->result.is_replaced = true;
        survey->members_count = 0; /* what they have is of no use */
    }
    survey->is_measured = true;
    survey->result.measure = *measure;
    find_members(fetch, survey);
    struct asked *self =
        find_asked(survey->members, survey->members_count, node_identity(fetch->node));
    if (self) {
        take_answer(survey, self, own);
    }
    const uint64_t now_us = network_now_us();
    survey->end_us = now_us + ROUND_US + ROUND_TIMES * (now_us - survey->round_us);
    survey->phase = PHASE_ASKING;
    survey->next_asked = 0;
    survey->waiting_count = 0;
    survey->window = 0;
    survey->more_us = 0;
    step(fetch, survey);
}

static void begin_round(struct fetch *fetch, struct survey *survey)
{
    survey->number = fetch->next_number++;
    survey->phase = PHASE_MEASURING;
    survey->round_us = network_now_us();
    survey->due_us = UINT64_MAX;
    survey_measure_own(fetch, survey->number, buf_bytes(&survey->path), measured);
}

static void ask_more(struct fetch *fetch, struct survey *survey, uint64_t now_us)
{
    if (now_us >= survey->more_us) { /* the silent ones hold nobody up */
        survey->more_us = now_us + ASK_MORE_US;
        survey->window = survey->waiting_count + ASK_AT_ONCE;
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {
        .type = KEEP_SURVEY,
        .number = survey->number,
        .digest = survey->result.measure.digest,
        .path = buf_bytes(&survey->path),
    };
    keep_message_format(&message, &bytes);
    for (; survey->next_asked < survey->members_count && survey->waiting_count < survey->window;
         survey->next_asked++) {
        struct asked *member = &survey->members[survey->next_asked];
        if (!member->is_done) {
            member->is_waiting = true;
            survey->waiting_count++;
            network_send(fetch->network, SERVICE_KEEP, &member->told.id, buf_bytes(&bytes));
        }
    }
}

static void end_round(struct fetch *fetch, struct survey *survey, uint64_t now_us)
{
    count_members(survey);
    if (survey->result.is_reached || now_us >= survey->until_us) {
        end(fetch, survey, 0);
        return;
    }
    uint64_t pause_us = PAUSE_US + PAUSE_US_A_MEMBER * survey->members_count;
    /* Not what silent ones took. */
    const uint64_t took_us = now_us < survey->end_us ? now_us - survey->round_us : 0;
    pause_us = PAUSE_TIMES * took_us > pause_us ? PAUSE_TIMES * took_us : pause_us;
    survey->phase = PHASE_PAUSING;
    survey->again_us = now_us + pause_us < survey->until_us ? now_us + pause_us : survey->until_us;
    survey->due_us = survey->again_us;
}

/* Goes on as far as it can. */
static void step(struct fetch *fetch, struct survey *survey)
{
    const uint64_t now_us = network_now_us();
    if (survey->phase == PHASE_PAUSING) {
        count_members(survey);
        if (survey->result.is_reached) {
            end(fetch, survey, 0);
        } else if (now_us >= survey->again_us) {
            begin_round(fetch, survey);
        } else {
            survey->due_us = survey->again_us;
        }
        return;
    }
    if (survey->phase != PHASE_ASKING) {
        return;
    }
    ask_more(fetch, survey, now_us);
    count_members(survey);
    const bool are_all_asked = survey->next_asked == survey->members_count;
    if (survey->result.is_reached || (are_all_asked && survey->waiting_count == 0) ||
        (are_all_asked && now_us >= survey->end_us)) {
        end_round(fetch, survey, now_us);
    } else {
        survey->due_us = are_all_asked ? survey->end_us : survey->more_us;
    }
}

bool survey_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes)
{
    struct keep_message message;
    if (keep_message_parse(bytes, &message)) {
        return false;
    }
    if (message.type == KEEP_SURVEY) {
        if (path_check(message.path) == 0) {
            survey_measure_for(fetch, from, &message);
        }
        return true;
    }
    if (message.type != KEEP_SURVEYED) {
        return false;
    }
    struct survey *survey = find_survey(fetch, message.number);
    struct asked *member = survey ? find_asked(survey->members, survey->members_count, from) : NULL;
    if (member && member->is_waiting) {
        survey->waiting_count--;
        take_answer(survey, member, &message.survey);
        survey->due_us = 0; /* also late, in the pause */
    }
    return true;
}

/* ---- from any thread ---------------------------------------------------------------------------
 */

static void run_begin(struct fetch *fetch, struct fetch_news *news)
{
    struct survey *survey = CONTAINER_OF(news, struct survey, news);
    if (fetch->is_over || fetch->surveys_count >= SURVEYS_MAX) {
        tell(fetch, survey, fetch->is_over ? -ECANCELED : -EBUSY);
        return;
    }
    fetch->surveys_count++;
    LL_PREPEND(fetch->surveys, survey);
    survey->until_us = network_now_us() + survey->options.wait_ms * MS;
    begin_round(fetch, survey);
}

void survey_begin(struct fetch *fetch, const struct survey_options *options, survey_done_fn done,
                  void *context)
{
    CHECK(options->wait_ms <= SURVEY_WAIT_MS_MAX);
    CHECK(options->quorum_ppm <= SURVEY_PPM);
    struct survey *survey = mem_alloc(sizeof *survey);
    *survey = (struct survey){
        .news = {.run = run_begin},
        .zone = options->zone ? mem_copy_string(options->zone) : NULL,
        .options = *options,
        .done = done,
        .context = context,
    };
    buf_add(&survey->path, options->path);
    fetch_post(fetch, &survey->news);
}

struct canceling {
    struct fetch_news news;
    const void *context;
};

static void run_cancel(struct fetch *fetch, struct fetch_news *news)
{
    struct canceling *canceling = CONTAINER_OF(news, struct canceling, news);
    struct survey *survey;
    struct survey *next;
    LL_FOREACH_SAFE(fetch->surveys, survey, next)
    {
        if (survey->context == canceling->context) {
            end(fetch, survey, -ECANCELED);
        }
    }
    free(canceling);
}

void survey_cancel(struct fetch *fetch, void *context)
{
    struct canceling *canceling = mem_alloc(sizeof *canceling);
    *canceling = (struct canceling){.news = {.run = run_cancel}, .context = context};
    fetch_post(fetch, &canceling->news);
}

/* ---- what is due -------------------------------------------------------------------------------
 */

void survey_due(struct fetch *fetch)
{
    const uint64_t now_us = network_now_us();
    struct survey *survey;
    struct survey *next;
    LL_FOREACH_SAFE(fetch->surveys, survey, next)
    {
        if (now_us >= survey->due_us) {
            step(fetch, survey);
        }
    }
}

uint64_t survey_next_us(const struct fetch *fetch)
{
    uint64_t next_us = UINT64_MAX;
    const struct survey *survey;
    LL_FOREACH(fetch->surveys, survey)
    {
        next_us = survey->due_us < next_us ? survey->due_us : next_us;
    }
    return next_us;
}

void survey_end_all(struct fetch *fetch)
{
    while (fetch->surveys) {
        end(fetch, fetch->surveys, -ECANCELED);
    }
}
