/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/send.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/content_id.h"
#include "client/entry.h"

/* The slowest disk that a node which is well reads a file from: it says nothing meanwhile. */
#define READING_BYTES_PER_MS_MIN (UINT64_C(16) * 1024)

void send_job_done(struct send_job *job)
{
    buf_done(&job->path);
    buf_done(&job->content);
}

/* What is to be told of the draft, whose content is locked. */
static void take_shape(struct mount *mount, struct send_job *job)
{
    pthread_mutex_lock(&mount->lock);
    const int err = inode_path(job->inode, &job->path);
    job->is_gone = err == -ENOENT;
    job->err = err;
    job->shape = job->inode->shape;
    job->changed = job->draft->changed;
    pthread_mutex_unlock(&mount->lock);
}

/* ---- one ---------------------------------------------------------------------------------------
 */

struct reading {
    const struct staging *staging;
    uint64_t at;
};

static int read_staging(void *context, void *data, size_t size_bytes, size_t *ret_bytes)
{
    struct reading *reading = context;
    const int err = staging_read(reading->staging, reading->at, data, size_bytes, ret_bytes);
    if (!err) {
        reading->at += *ret_bytes;
    }
    return err;
}

static void put_target(struct buf *target, const struct send_job *job)
{
    ask_target(target, buf_bytes(&job->path));
    buf_add_format(target, "?ack=0&keep=attributes&mode=%04o&mtime=", job->shape.mode);
    ask_add_time(target, job->shape.mtime_ns);
}

/* The node reads the file itself, by all processors, and no byte goes through the socket. -ENOTSUP:
 * it can't, as in another namespace. */
static int put_by_file(struct mount *mount, const struct send_job *job,
                       struct client_response *response)
{
    struct stat stat;
    const int fd = staging_fd(job->draft->staging);
    if (fd < 0 || mount->is_apart || fstat(fd, &stat) < 0) {
        return -ENOTSUP;
    }
    CLEANUP_BUF struct buf target = BUF_INIT;
    put_target(&target, job);
    buf_add_format(&target, "&from=/proc/%d/fd/%d&inode=%" PRIu64 ":%" PRIu64, (int)getpid(), fd,
                   (uint64_t)stat.st_dev, (uint64_t)stat.st_ino);
    const uint64_t reading_ms = (uint64_t)stat.st_size / READING_BYTES_PER_MS_MIN;
    const struct client_request request = {
        .method = "PUT",
        .target = buf_string(&target),
        .silence_ms_max = CONTENT_SILENCE_MS_MAX + reading_ms,
    };
    const int err = ask(mount, &request, response);
    /* So many at once are read by it; through the socket there is room for more. */
    const bool is_busy = client_is_code(response, "busy");
    if (!is_busy && !client_is_code(response, "bad_query")) {
        return err;
    }
    if (!is_busy) {
        mount->is_apart = true;
    }
    client_response_done(response);
    *response = CLIENT_RESPONSE_INIT;
    return -ENOTSUP;
}

static int put(struct mount *mount, const struct send_job *job, struct client_response *response)
{
    const struct staging *staging = job->draft->staging;
    struct reading reading = {.staging = staging};
    const struct client_source source = {
        .read = read_staging,
        .context = &reading,
        .length_bytes = (int64_t)staging_size(staging),
    };
    const struct bytes memory = staging_memory(staging);
    const bool is_at_hand = memory.size == staging_size(staging);
    CLEANUP_BUF struct buf target = BUF_INIT;
    put_target(&target, job);
    const struct client_request request = {
        .method = "PUT",
        .target = buf_string(&target),
        .headers = {"Expect:"},
        .body = is_at_hand ? memory : BYTES(NULL, 0),
        .source = is_at_hand ? NULL : &source,
        .silence_ms_max = CONTENT_SILENCE_MS_MAX,
    };
    return ask(mount, &request, response);
}

static int read_id(const struct client_response *response, struct id *ret_id)
{
    json_t *body = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const int err = id_parse(bytes_of_string(entry_text(body, "id")), ret_id);
    json_decref(body);
    return err ? -EIO : 0;
}

void send_one(struct mount *mount, struct send_job *job)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    pthread_rwlock_rdlock(&job->draft->content);
    take_shape(mount, job);
    if (!job->err) {
        job->err = put_by_file(mount, job, &response);
    }
    if (job->err == -ENOTSUP) {
        job->err = put(mount, job, &response);
    }
    pthread_rwlock_unlock(&job->draft->content);
    if (!job->err) {
        job->err = read_id(&response, &job->id);
    }
}

/* ---- many --------------------------------------------------------------------------------------
 */

static la_ssize_t on_made(struct archive *archive, void *context, const void *data, size_t size)
{
    (void)archive;
    buf_add(context, BYTES(data, size));
    return (la_ssize_t)size;
}

static int add_to_tar(struct archive *archive, struct archive_entry *entry,
                      const struct send_job *job)
{
    int64_t seconds = job->shape.mtime_ns / 1000000000;
    int64_t ns = job->shape.mtime_ns % 1000000000;
    if (ns < 0) {
        seconds--;
        ns += 1000000000;
    }
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, buf_string(&job->path));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, (mode_t)job->shape.mode);
    archive_entry_set_mtime(entry, seconds, (long)ns);
    archive_entry_set_size(entry, (la_int64_t)job->content.size);
    if (archive_write_header(archive, entry) < ARCHIVE_WARN) {
        return -EIO;
    }
    if (job->content.size > 0 &&
        archive_write_data(archive, job->content.data, job->content.size) < 0) {
        return -EIO;
    }
    return 0;
}

static int make_tar(const struct send_job *jobs, size_t count, struct buf *tar)
{
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    if (!archive || !entry || archive_write_set_format_pax(archive) != ARCHIVE_OK ||
        archive_write_add_filter_none(archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(archive, 0) != ARCHIVE_OK ||
        archive_write_open(archive, tar, NULL, on_made, NULL) != ARCHIVE_OK) {
        mem_out_of_memory();
    }
    int err = 0;
    for (size_t i = 0; !err && i < count; i++) {
        if (!jobs[i].is_gone) {
            err = add_to_tar(archive, entry, &jobs[i]);
        }
    }
    if (archive_write_close(archive) != ARCHIVE_OK) {
        err = -EIO;
    }
    archive_entry_free(entry);
    archive_write_free(archive);
    return err;
}

/* Copies what it holds. False: it has to go for itself. */
static bool take_content(struct mount *mount, struct send_job *job)
{
    struct draft *draft = job->draft;
    pthread_rwlock_rdlock(&draft->content);
    take_shape(mount, job);
    const struct bytes memory = staging_memory(draft->staging);
    const bool is_small = memory.size == staging_size(draft->staging);
    if (is_small) {
        buf_add(&job->content, memory);
    }
    pthread_rwlock_unlock(&draft->content);
    return is_small && !job->shape.has_attributes && (!job->err || job->is_gone);
}

static int put_tar(struct mount *mount, const struct send_job *jobs, size_t count)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf tar = BUF_INIT;
    const int err = make_tar(jobs, count, &tar);
    if (err) {
        return err;
    }
    const struct client_request request = {
        .method = "PUT",
        .target = "/fs/?ack=0",
        .headers = {"Content-Type: application/x-tar", "Expect:"},
        .body = buf_bytes(&tar),
        .silence_ms_max = CHANGE_SILENCE_MS_MAX,
    };
    return ask(mount, &request, &response);
}

static void take_ids(struct send_job *jobs, size_t count)
{
    struct content_id *content = content_id_new();
    for (size_t i = 0; i < count; i++) {
        jobs[i].err = content_id_add(content, buf_bytes(&jobs[i].content));
        content_id_take(content, &jobs[i].id);
    }
    content_id_free(content);
}

static void forget_content(struct send_job *job)
{
    send_job_done(job);
    job->path = BUF_INIT;
    job->content = BUF_INIT;
}

void send_many(struct mount *mount, struct send_job *jobs, size_t count)
{
    size_t first = 0; /* those before it are done */
    for (size_t i = 0; i <= count; i++) {
        if (i < count && take_content(mount, &jobs[i])) {
            continue;
        }
        /* All that came before goes together; one alone is shorter without tar. */
        int err = i - first > 1 ? put_tar(mount, jobs + first, i - first) : -EAGAIN;
        if (!err) {
            take_ids(jobs + first, i - first);
            first = i;
        }
        /* And what is not small for itself, or all if together it did not go. Of a full disk, as
         * many as it has room for. */
        int stop = err == -ENOTCONN || err == -EIO ? err : 0;
        for (; first < count && first <= i; first++) {
            forget_content(&jobs[first]);
            if (stop) {
                jobs[first].err = stop;
                continue;
            }
            send_one(mount, &jobs[first]);
            stop = jobs[first].err == -ENOTCONN || jobs[first].err == -ENOSPC ? jobs[first].err : 0;
        }
    }
}
