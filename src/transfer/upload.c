/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/upload.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/random.h"
#include "transfer/bucket.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

/* What a receiver may send in a turn, beside what it did not use. */
#define QUANTUM_BYTES ((uint64_t)256 * 1024)
/* The next block begins when so much of the time has passed that the one before it takes: a little
 * early, or a link that has become faster would never be found out. In percent. */
#define PACE_PERCENT 80u
/* As long as all of the last eight blocks were first copies, there is more to give first: then a
 * block that was given is not given again while anything is under way, nor before those who got it
 * had the time for it, that of so many blocks. An idle link for a moment costs less than copies
 * that the receivers can make themselves. */
#define FIRSTS_EARLY 8
/* As long as so many of them were, the last first copies are on their way to the others: what was
 * given just now is not given again either, but what they should have passed on already is. */
#define FIRSTS_LATE 4
#define FRESH_BLOCKS 20u
/* Who asked in this epoch or the last one has a share of the place that there is. */
#define EPOCH_US (200 * MS)
/* The rate is looked at over so long, counting only time in which something was being sent. */
#define RATE_US (100 * MS)
#define RATE_FIRST_US MS
/* A slower sample changes what is known by so much of the difference. */
#define RATE_SHARE 4u

struct job {
    struct upload_job job;
    bool is_first; /* nobody was given it lately */
    struct job *prev;
    struct job *next;
};

struct receiver {
    struct node_id id;
    struct job *jobs; /* waiting, in order */
    uint64_t waiting_count;
    uint64_t waiting_bytes;
    uint64_t sending_count;
    uint64_t sending_bytes;
    uint64_t deficit_bytes;
    bool has_turn;         /* and got what it may send for it */
    uint64_t epoch;        /* of its last request */
    struct receiver *prev; /* of those with something waiting, in the order of their turns */
    struct receiver *next;
    UT_hash_handle hh;
};

/* A block that was given lately, or will be. */
struct given {
    struct id block;
    struct {
        struct node_id node;
        uint64_t at_us;
    } to[UPLOAD_GIVEN_TO_MAX]; /* the latest first */
    size_t to_count;
    UT_hash_handle hh; /* in the order of the last one */
};

struct asker {
    struct node_id node;
    uint64_t at_us;
};

struct asked_file {
    struct id id;
    struct asker *askers;
    size_t askers_count;
    size_t askers_capacity;
    UT_hash_handle hh; /* in the order of the last one */
};

struct upload {
    struct random random;
    struct upload_counters counters;
    struct receiver *receivers;
    struct receiver *turns;
    struct given *given;
    struct asked_file *files;
    uint64_t sending_bytes;
    uint8_t firsts;       /* bits: of the last eight taken, those with a first copy */
    uint64_t first_count; /* waiting jobs with the first copy of a block */

    uint64_t epoch;
    size_t active_count; /* receivers that asked in this epoch */
    size_t active_before;

    uint64_t busy_since_us; /* something is being sent since; 0: nothing is */
    uint64_t busy_us;
    uint64_t busy_bytes;
    unsigned samples_count; /* RATE_SHARE - 1 at most */

    uint64_t paced_us; /* the next may begin, whether or not this one has left */
    struct bucket limit;
};

struct upload *upload_new(const struct upload_options *options, uint64_t now_us)
{
    struct upload *upload = mem_alloc(sizeof *upload);
    random_init(&upload->random, options->random_seed);
    upload_set_rate(upload, now_us, options->rate_bytes_per_s);
    return upload;
}

static void drop_jobs(struct receiver *receiver)
{
    struct job *job;
    struct job *next;
    DL_FOREACH_SAFE(receiver->jobs, job, next)
    {
        DL_DELETE(receiver->jobs, job);
        free(job);
    }
}

static void drop_file(struct upload *upload, struct asked_file *file)
{
    HASH_DEL(upload->files, file);
    free(file->askers);
    free(file);
}

void upload_free(struct upload *upload)
{
    if (!upload) {
        return;
    }
    struct receiver *receiver;
    struct receiver *next_receiver;
    HASH_ITER(hh, upload->receivers, receiver, next_receiver)
    {
        drop_jobs(receiver);
        HASH_DEL(upload->receivers, receiver);
        free(receiver);
    }
    struct given *given;
    struct given *next_given;
    HASH_ITER(hh, upload->given, given, next_given)
    {
        HASH_DEL(upload->given, given);
        free(given);
    }
    while (upload->files) {
        drop_file(upload, upload->files);
    }
    free(upload);
}

void upload_set_rate(struct upload *upload, uint64_t now_us, uint64_t rate_bytes_per_s)
{
    bucket_init(&upload->limit, now_us, rate_bytes_per_s);
}

/* Receivers. */

/* Forgets receivers that ask no more, and counts those that do. */
static void begin_epoch(struct upload *upload, uint64_t epoch)
{
    upload->active_before = epoch == upload->epoch + 1 ? upload->active_count : 0;
    upload->active_count = 0;
    struct receiver *receiver;
    struct receiver *next;
    HASH_ITER(hh, upload->receivers, receiver, next)
    {
        if (receiver->epoch + 2 < epoch && !receiver->jobs && receiver->sending_count == 0) {
            HASH_DEL(upload->receivers, receiver);
            free(receiver);
        }
    }
    upload->epoch = epoch;
}

static struct receiver *find_receiver(struct upload *upload, const struct node_id *id)
{
    struct receiver *receiver;
    HASH_FIND(hh, upload->receivers, id, sizeof *id, receiver);
    return receiver;
}

static struct receiver *note_receiver(struct upload *upload, uint64_t now_us,
                                      const struct node_id *id)
{
    const uint64_t epoch = now_us / EPOCH_US + 1;
    if (epoch > upload->epoch) {
        begin_epoch(upload, epoch);
    }
    struct receiver *receiver = find_receiver(upload, id);
    if (!receiver) {
        receiver = mem_alloc(sizeof *receiver);
        receiver->id = *id;
        HASH_ADD(hh, upload->receivers, id, sizeof *id, receiver);
    }
    if (receiver->epoch != upload->epoch) {
        receiver->epoch = upload->epoch;
        upload->active_count++;
    }
    return receiver;
}

static bool is_working(const struct receiver *receiver)
{
    return receiver->jobs || receiver->sending_count > 0;
}

/* What was given. */

static struct given *find_given(struct upload *upload, const struct id *block)
{
    struct given *given;
    HASH_FIND(hh, upload->given, block, sizeof *block, given);
    return given;
}

static void remove_to(struct given *given, size_t at)
{
    memmove(&given->to[at], &given->to[at + 1], (given->to_count - at - 1) * sizeof given->to[0]);
    given->to_count--;
}

/* Of those who got it lately; who asks for a block again has lost it, and counts no more. */
static size_t list_given(struct upload *upload, uint64_t now_us, const struct upload_job *job,
                         struct node_id ret_given_to[UPLOAD_GIVEN_TO_MAX])
{
    struct given *given = find_given(upload, &job->block);
    size_t count = 0;
    for (size_t i = 0; given && i < given->to_count; i++) {
        if (given->to[i].at_us + UPLOAD_GIVEN_MS * MS > now_us &&
            !node_id_equal(&given->to[i].node, &job->peer)) {
            ret_given_to[count++] = given->to[i].node;
        }
    }
    return count;
}

static void unnote_given(struct upload *upload, const struct upload_job *job)
{
    struct given *given = find_given(upload, &job->block);
    for (size_t i = given ? given->to_count : 0; i-- > 0;) {
        if (node_id_equal(&given->to[i].node, &job->peer)) {
            remove_to(given, i);
        }
    }
    if (given && given->to_count == 0) {
        HASH_DEL(upload->given, given);
        free(given);
    }
}

static void note_given(struct upload *upload, uint64_t now_us, const struct upload_job *job)
{
    struct given *given = find_given(upload, &job->block);
    if (given) {
        HASH_DEL(upload->given, given); /* added again at the end of the order */
    } else {
        if (HASH_COUNT(upload->given) >= UPLOAD_GIVEN_BLOCKS_MAX) {
            struct given *oldest = upload->given;
            HASH_DEL(upload->given, oldest);
            free(oldest);
        }
        given = mem_alloc(sizeof *given);
        given->block = job->block;
    }
    for (size_t i = given->to_count; i-- > 0;) {
        if (node_id_equal(&given->to[i].node, &job->peer)) {
            remove_to(given, i);
        }
    }
    if (given->to_count == UPLOAD_GIVEN_TO_MAX) {
        given->to_count--;
    }
    memmove(&given->to[1], &given->to[0], given->to_count * sizeof given->to[0]);
    given->to[0].node = job->peer;
    given->to[0].at_us = now_us;
    given->to_count++;
    HASH_ADD(hh, upload->given, block, sizeof given->block, given);
}

/* Requests. */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool has_place(const struct upload *upload, const struct receiver *receiver,
                      uint32_t size_bytes)
{
    const struct upload_counters *counters = &upload->counters;
    const uint64_t count = counters->waiting_count + counters->sending_count;
    const uint64_t bytes = counters->waiting_bytes + upload->sending_bytes;
    uint64_t most_bytes =
        larger(UPLOAD_BYTES_MIN, counters->rate_bytes_per_s * UPLOAD_WAIT_MS / 1000);
    most_bytes = most_bytes < UPLOAD_BYTES_MAX ? most_bytes : UPLOAD_BYTES_MAX;
    if (count >= UPLOAD_JOBS_MAX || (count >= UPLOAD_BLOCKS_MIN && bytes >= most_bytes)) {
        return false;
    }
    const uint64_t active = larger(1, larger(upload->active_count, upload->active_before));
    const uint64_t own_count = receiver->waiting_count + receiver->sending_count;
    const uint64_t own_bytes = receiver->waiting_bytes + receiver->sending_bytes;
    return own_count < larger(1, UPLOAD_BLOCKS_MIN / active) ||
           own_bytes + size_bytes <= most_bytes / active;
}

/* It was given so lately that those who got it are hardly able to have passed it on. */
static bool is_fresh(struct upload *upload, uint64_t now_us, const struct upload_job *job)
{
    const struct given *given = find_given(upload, &job->block);
    const uint64_t rate = larger(upload->counters.rate_bytes_per_s, 1);
    return given && now_us < given->to[0].at_us + FRESH_BLOCKS * SECOND * job->size_bytes / rate;
}

enum upload_verdict upload_request(struct upload *upload, uint64_t now_us,
                                   const struct upload_job *job, bool insists,
                                   struct node_id ret_given_to[UPLOAD_GIVEN_TO_MAX],
                                   size_t *ret_given_to_count)
{
    struct upload_counters *counters = &upload->counters;
    struct receiver *receiver = note_receiver(upload, now_us, &job->peer);
    *ret_given_to_count = list_given(upload, now_us, job, ret_given_to);
    const bool is_at_work = counters->waiting_count > 0 || counters->sending_count > 0;
    const int firsts = __builtin_popcount(upload->firsts);
    const bool is_early = firsts >= FIRSTS_EARLY;
    if (*ret_given_to_count > 0 && !insists &&
        (upload->first_count > 0 || (is_early && is_at_work) ||
         (firsts >= FIRSTS_LATE && is_fresh(upload, now_us, job)))) {
        counters->refused_given++;
        return UPLOAD_BUSY;
    }
    if (!has_place(upload, receiver, job->size_bytes)) {
        counters->refused_busy++;
        return UPLOAD_BUSY;
    }
    counters->insisted += insists && *ret_given_to_count > 0;
    counters->blocks_again += *ret_given_to_count > 0;
    struct job *queued = mem_alloc(sizeof *queued);
    queued->job = *job;
    queued->is_first = *ret_given_to_count == 0;
    upload->first_count += queued->is_first;
    if (!insists) {
        upload->firsts = (uint8_t)(upload->firsts << 1 | queued->is_first);
    }
    *ret_given_to_count = 0;
    note_given(upload, now_us, job);
    if (!is_working(receiver)) {
        counters->receivers_count++;
    }
    if (!receiver->jobs) {
        DL_APPEND(upload->turns, receiver);
    }
    DL_APPEND(receiver->jobs, queued);
    receiver->waiting_count++;
    receiver->waiting_bytes += job->size_bytes;
    counters->waiting_count++;
    counters->waiting_bytes += job->size_bytes;
    return UPLOAD_TAKEN;
}

/* Takes the job out of what waits; the caller's then. */
static void unqueue(struct upload *upload, struct receiver *receiver, struct job *job)
{
    DL_DELETE(receiver->jobs, job);
    receiver->waiting_count--;
    receiver->waiting_bytes -= job->job.size_bytes;
    upload->counters.waiting_count--;
    upload->counters.waiting_bytes -= job->job.size_bytes;
    upload->first_count -= job->is_first;
    if (!receiver->jobs) {
        receiver->deficit_bytes = 0;
        receiver->has_turn = false;
        DL_DELETE(upload->turns, receiver);
    }
}

static size_t cancel(struct upload *upload, struct receiver *receiver, bool all, uint32_t number)
{
    size_t count = 0;
    struct job *job;
    struct job *next;
    const bool was_working = is_working(receiver);
    DL_FOREACH_SAFE(receiver->jobs, job, next)
    {
        if (all || job->job.number == number) {
            unqueue(upload, receiver, job);
            unnote_given(upload, &job->job);
            free(job);
            count++;
        }
    }
    upload->counters.cancelled += count;
    upload->counters.receivers_count -= was_working && !is_working(receiver);
    return count;
}

size_t upload_cancel(struct upload *upload, uint64_t now_us, const struct node_id *peer,
                     uint32_t number)
{
    (void)now_us;
    struct receiver *receiver = find_receiver(upload, peer);
    return receiver ? cancel(upload, receiver, false, number) : 0;
}

void upload_peer_lost(struct upload *upload, uint64_t now_us, const struct node_id *peer)
{
    (void)now_us;
    struct receiver *receiver = find_receiver(upload, peer);
    if (receiver) {
        (void)cancel(upload, receiver, true, 0);
    }
}

/* Sending. */

static bool may_send(struct upload *upload, uint64_t now_us)
{
    const struct upload_counters *counters = &upload->counters;
    if (!upload->turns) {
        return false;
    }
    const bool is_little =
        upload->sending_bytes <= counters->rate_bytes_per_s / (1000 / UPLOAD_SENDING_MS);
    if (counters->sending_count > 0 && !is_little &&
        (counters->sending_count >= UPLOAD_SENDING_MAX || now_us < upload->paced_us)) {
        return false;
    }
    return bucket_has(&upload->limit, now_us);
}

bool upload_next(struct upload *upload, uint64_t now_us, struct upload_job *ret_job)
{
    if (!may_send(upload, now_us)) {
        return false;
    }
    struct receiver *receiver = upload->turns;
    for (;;) {
        if (!receiver->has_turn) {
            receiver->has_turn = true;
            receiver->deficit_bytes += QUANTUM_BYTES;
        }
        if (receiver->deficit_bytes >= receiver->jobs->job.size_bytes) {
            break;
        }
        receiver->has_turn = false;
        DL_DELETE(upload->turns, receiver);
        DL_APPEND(upload->turns, receiver);
        receiver = upload->turns;
    }
    struct job *job = receiver->jobs;
    receiver->deficit_bytes -= job->job.size_bytes;
    unqueue(upload, receiver, job);
    *ret_job = job->job;
    free(job);
    receiver->sending_count++;
    receiver->sending_bytes += ret_job->size_bytes;
    upload->sending_bytes += ret_job->size_bytes;
    if (upload->counters.sending_count++ == 0) {
        upload->busy_since_us = now_us;
    }
    bucket_take(&upload->limit, ret_job->size_bytes);
    const uint64_t rate = upload->counters.rate_bytes_per_s;
    upload->paced_us =
        rate > 0 ? now_us + ret_job->size_bytes * PACE_PERCENT * (SECOND / 100) / rate : NEVER;
    return true;
}

uint64_t upload_next_us(const struct upload *upload)
{
    if (!upload->turns) {
        return NEVER;
    }
    const bool is_paced = upload->counters.sending_count > 0;
    if (is_paced && upload->counters.sending_count >= UPLOAD_SENDING_MAX) {
        return NEVER;
    }
    uint64_t at_us = is_paced ? upload->paced_us : 0;
    if (bucket_is_empty(&upload->limit)) {
        at_us = larger(at_us, bucket_next_us(&upload->limit));
    }
    return at_us;
}

/* The rate of the last RATE_US in which something was sent; sinks slowly, so that a pause of the
 * receivers does not look like a slow link. The first of these samples is told while it is being
 * taken, and they count alike until there are RATE_SHARE of them: what a link takes at once, before
 * it is full, looks like a much faster one. */
static void note_rate(struct upload *upload, uint64_t now_us, uint64_t bytes)
{
    upload->busy_bytes += bytes;
    upload->busy_us += now_us - upload->busy_since_us;
    upload->busy_since_us = now_us;
    uint64_t *rate = &upload->counters.rate_bytes_per_s;
    const bool is_first = upload->samples_count == 0;
    if (upload->busy_us < (is_first ? RATE_FIRST_US : RATE_US)) {
        return;
    }
    const uint64_t seen = upload->busy_bytes * MS / (upload->busy_us / MS);
    const uint64_t share = upload->samples_count + 1;
    *rate = is_first || seen >= *rate ? seen : ((share - 1) * *rate + seen) / share;
    if (upload->busy_us < RATE_US) {
        return;
    }
    upload->samples_count += upload->samples_count + 1 < RATE_SHARE;
    upload->busy_bytes = 0;
    upload->busy_us = 0;
}

void upload_done(struct upload *upload, uint64_t now_us, const struct upload_job *job, bool is_sent)
{
    struct upload_counters *counters = &upload->counters;
    struct receiver *receiver = find_receiver(upload, &job->peer);
    CHECK(receiver && receiver->sending_count > 0 && counters->sending_count > 0);
    receiver->sending_count--;
    receiver->sending_bytes -= job->size_bytes;
    upload->sending_bytes -= job->size_bytes;
    counters->receivers_count -= !is_working(receiver);
    note_rate(upload, now_us, is_sent ? job->size_bytes : 0);
    counters->sending_count--;
    if (is_sent) {
        counters->blocks_sent++;
        counters->bytes_sent += job->size_bytes;
    } else {
        counters->blocks_failed++;
        unnote_given(upload, job);
    }
}

/* Askers of files. */

static struct asked_file *note_file(struct upload *upload, const struct id *id)
{
    struct asked_file *file;
    HASH_FIND(hh, upload->files, id, sizeof *id, file);
    if (file) {
        HASH_DEL(upload->files, file); /* added again at the end of the order */
    } else {
        if (HASH_COUNT(upload->files) >= UPLOAD_FILES_MAX) {
            drop_file(upload, upload->files);
        }
        file = mem_alloc(sizeof *file);
        file->id = *id;
    }
    HASH_ADD(hh, upload->files, id, sizeof file->id, file);
    return file;
}

/* In place of itself, of one that is too old, or of the oldest. */
static void note_asker(struct asked_file *file, uint64_t now_us, const struct node_id *peer)
{
    size_t at = file->askers_count;
    size_t oldest = 0;
    for (size_t i = 0; i < file->askers_count; i++) {
        if (node_id_equal(&file->askers[i].node, peer)) {
            at = i;
        }
        oldest = file->askers[i].at_us < file->askers[oldest].at_us ? i : oldest;
    }
    if (at == file->askers_count && at == UPLOAD_ASKERS_KEPT) {
        at = oldest;
    } else if (at == file->askers_count) {
        if (at == file->askers_capacity) {
            file->askers_capacity = at > 0 ? 2 * at : 2;
            file->askers =
                mem_resize_array(file->askers, file->askers_capacity, sizeof *file->askers);
        }
        file->askers_count++;
    }
    file->askers[at] = (struct asker){.node = *peer, .at_us = now_us};
}

size_t upload_asked(struct upload *upload, uint64_t now_us, const struct id *id,
                    const struct node_id *peer, struct node_id ret_others[UPLOAD_ASKERS_NAMED])
{
    struct asked_file *file;
    if (peer) {
        file = note_file(upload, id);
        note_asker(file, now_us, peer);
    } else {
        HASH_FIND(hh, upload->files, id, sizeof *id, file);
    }
    size_t count = 0;
    size_t seen = 0;
    for (size_t i = 0; file && i < file->askers_count; i++) {
        const struct asker *asker = &file->askers[i];
        if (asker->at_us + UPLOAD_ASKER_MS * MS <= now_us ||
            (peer && node_id_equal(&asker->node, peer))) {
            continue;
        }
        /* Each is among those named with the same chance (Vitter 1985, algorithm R). */
        const size_t at =
            count < UPLOAD_ASKERS_NAMED ? count++ : random_below(&upload->random, seen + 1);
        if (at < UPLOAD_ASKERS_NAMED) {
            ret_others[at] = asker->node;
        }
        seen++;
    }
    return count;
}

const struct upload_counters *upload_counters(const struct upload *upload)
{
    return &upload->counters;
}
