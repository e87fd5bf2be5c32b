/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "chunk/chunk.h"
#include "http/ack_priv.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/server_priv.h"
#include "node/fetch.h"
#include "node/network.h"
#include "store/put.h"
#include "tree/change.h"

#define FILE_MODE 0644u

struct upload {
    struct request *request;
    struct store_put *put;
    struct tree_put entry;
    int err;          /* of the change, or of the file */
    const char *file; /* path of one that has the content; NULL: the body is that */
    bool is_in_place; /* the file is to be the place of its own blocks; else it is copied */
    bool is_bad_file; /* err is of the file */
    bool is_link;     /* a symbolic link: no content */
    bool keeps_attributes;
    bool was_there;
    struct dot dot;
    struct store_put_result result;
};

/* Condition headers into entry. False: it has answered. */
static bool read_conditions(struct request *request, struct tree_put *entry)
{
    const char *match = request_header(request, MHD_HTTP_HEADER_IF_MATCH);
    const char *none = request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH);
    if (none && strcmp(none, "*") == 0 && !match) {
        entry->condition = TREE_ABSENT;
        return true;
    }
    if (match && !none && !field_etag_parse(match, &entry->match)) {
        entry->condition = TREE_MATCHING;
        return true;
    }
    if (match || none) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "If-None-Match takes *, If-Match one id in quotes");
        return false;
    }
    return true;
}

/* Answers are JSON, so other text could not be told again. */
static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

/* Parameters and conditions. False: it has answered. */
static bool read_entry(struct request *request, struct tree_put *entry)
{
    entry->kind = TREE_FILE;
    entry->path = request->path;
    entry->mode = FILE_MODE;
    entry->mtime_ns = clock_wall_ms(node_clock(request->node)) * 1000000;
    const char *mode = request_parameter(request, "mode");
    const char *mtime = request_parameter(request, "mtime");
    if ((mode && field_mode_parse(mode, &entry->mode)) ||
        (mtime && field_time_parse(mtime, &entry->mtime_ns))) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "mode is octal, mtime is seconds with a fraction");
        return false;
    }
    const char *keep = request_parameter(request, "keep");
    if (keep && strcmp(keep, "attributes") != 0) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "keep takes attributes");
        return false;
    }
    const char *target = request_parameter(request, "symlink");
    if (target) {
        entry->kind = TREE_SYMLINK;
        entry->target = bytes_of_string(target);
        if (target[0] == 0 || entry->target.size > TREE_TARGET_BYTES_MAX || !is_utf8(target)) {
            answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "no such target can be");
            return false;
        }
    }
    return read_conditions(request, entry);
}

static bool is_tar(struct request *request)
{
    static const char tar[] = "application/x-tar";
    const size_t size = sizeof tar - 1;
    const char *type = request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);
    /* Parameters may follow. */
    return type && strncasecmp(type, tar, size) == 0 && strchr("; \t", type[size]);
}

/* What goes with a directory does not go with a file, and the reverse. */
static bool has_odd_parameter(struct request *request, bool is_directory)
{
    return is_directory
               ? request_parameter(request, "mode") || request_parameter(request, "mtime") ||
                     request_parameter(request, "symlink") ||
                     request_parameter(request, "in_place") || request_parameter(request, "from") ||
                     request_parameter(request, "inode") || request_parameter(request, "keep")
               : request_parameter(request, "atomic") != NULL;
}

/* The content is in one place, and what belongs to one does not go with another. */
static bool has_odd_place(struct request *request)
{
    const bool has_file = request_parameter(request, "from");
    const int places = (request_parameter(request, "symlink") != NULL) +
                       (request_parameter(request, "in_place") != NULL) + has_file;
    return places > 1 || (request_parameter(request, "inode") && !has_file);
}

/* What the headers tell already. False: it has answered. */
static bool check_content(struct request *request, const struct upload *upload)
{
    const uint64_t length = request_length(request);
    if (upload->file && !request_is_local(request)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "in_place and from are for the Unix socket of the node");
    } else if (length > 0 && (upload->file || upload->is_link)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_body", "this request takes no body");
    } else if (length != UINT64_MAX && length > CHUNK_FILE_BYTES_MAX) {
        answer_failure(request, -EFBIG);
    }
    return !request->is_answered;
}

/* Other requests of this thread wait meanwhile, which is seldom long, and better than none. */
static bool make_room(void *context)
{
    return fetch_make_room(context);
}

static void begin(struct request *request)
{
    const bool is_directory = is_tar(request);
    if (!ack_read(request)) {
        return;
    }
    if (has_odd_parameter(request, is_directory) || has_odd_place(request)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "parameters of files and of directories don't mix");
        return;
    }
    if (is_directory) {
        request->endpoint = &endpoint_put_tar;
        endpoint_put_tar.begin(request);
        return;
    }
    if (request->path.size == 0 || request->path_has_slash) {
        answer_error(request, MHD_HTTP_CONFLICT, "is_directory",
                     "a directory is put as a tar stream");
        return;
    }
    struct upload *upload = mem_alloc(sizeof *upload);
    upload->request = request;
    request->state = upload;
    if (!read_entry(request, &upload->entry)) {
        return;
    }
    upload->keeps_attributes = request_parameter(request, "keep") != NULL;
    upload->is_link = upload->entry.kind == TREE_SYMLINK;
    upload->is_in_place = request_parameter(request, "in_place") != NULL;
    upload->file = request_parameter(request, upload->is_in_place ? "in_place" : "from");
    if (!check_content(request, upload) || upload->is_link) {
        return;
    }
    const int err = store_put_begin(node_store(request->node), STORE_ORIGIN, &upload->put);
    if (err) {
        answer_failure(request, err);
        return;
    }
    store_put_set_room(upload->put, make_room, network_fetch(request->server->options.network));
}

static size_t body(struct request *request, struct bytes piece)
{
    struct upload *upload = request->state;
    const int err = store_put_write(upload->put, piece);
    if (err) {
        /* Its space is given back now, however long the client goes on. */
        store_put_abort(STEAL_PTR(upload->put));
        answer_failure(request, err);
    }
    return piece.size;
}

static size_t attributes_of(const struct tree_version *version,
                            struct tree_attribute ret_attributes[TREE_ATTRIBUTES_MAX])
{
    struct bytes left = version->attributes;
    size_t count = 0;
    while (count < TREE_ATTRIBUTES_MAX && tree_attribute_next(&left, &ret_attributes[count])) {
        count++;
    }
    return count;
}

static int apply(void *context, const struct tree *tree, struct kv_txn *txn,
                 const struct store_put_result *results)
{
    struct upload *upload = context;
    struct tree_put entry = upload->entry;
    struct tree_entry before;
    int err = tree_find(tree, txn, entry.path, &before);
    upload->was_there = !err;
    if (!upload->is_link) {
        entry.file_id = results[0].id;
        entry.size_bytes = results[0].length_bytes;
    }
    struct tree_attribute attributes[TREE_ATTRIBUTES_MAX];
    if (upload->keeps_attributes && upload->was_there) {
        entry.attributes = attributes;
        entry.attributes_count = attributes_of(&before.version, attributes);
    }
    return tree_change_put(tree, txn, &entry, &upload->dot);
}

static void changed(void *context, int err, const struct store_put_result *results)
{
    struct upload *upload = context;
    upload->err = err;
    if (!err && !upload->is_link) {
        upload->result = results[0];
    }
    request_resume(upload->request);
}

static void submit(struct upload *upload)
{
    struct store_put *put = upload->put;
    upload->put = NULL;
    const struct node_change change = {
        .puts = &put,
        .puts_count = upload->is_link ? 0 : 1,
        .apply = apply,
        .done = changed,
        .context = upload,
    };
    node_change_async(upload->request->node, &change);
}

/* "DEVICE:INODE" is what the client has open, if it says so: a path may mean another file here. */
static int check_file(const struct upload *upload, const struct stat *stat)
{
    const char *inode = request_parameter(upload->request, "inode");
    CLEANUP_FREE char *there =
        mem_format("%" PRIu64 ":%" PRIu64, (uint64_t)stat->st_dev, (uint64_t)stat->st_ino);
    if (!S_ISREG(stat->st_mode)) {
        return S_ISDIR(stat->st_mode) ? -EISDIR : -EINVAL;
    }
    return inode && strcmp(inode, there) != 0 ? -ESTALE : 0;
}

static bool has_changed(const struct stat *a, const struct stat *b)
{
    return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec || a->st_ctim.tv_sec != b->st_ctim.tv_sec ||
           a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

static int copy_file(const struct upload *upload)
{
    CLEANUP_FD int fd = -1;
    struct stat stat;
    struct stat after;
    if (upload->file[0] != '/') {
        return -EINVAL;
    }
    int err = file_open_at(AT_FDCWD, upload->file, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);
    if (!err && fstat(fd, &stat) < 0) {
        err = err_from_errno(errno);
    }
    if (!err) {
        err = check_file(upload, &stat);
    }
    if (!err) {
        err = store_put_fd(upload->put, fd);
    }
    /* Who has it open, and gave up waiting for us, may write to it again. */
    if (!err && request_parameter(upload->request, "inode") &&
        (fstat(fd, &after) < 0 || has_changed(&stat, &after))) {
        err = -ESTALE;
    }
    return err;
}

/* In a thread of its own: it reads the whole file. */
static void take_file(void *context)
{
    struct upload *upload = context;
    upload->err =
        upload->is_in_place ? store_put_in_place(upload->put, upload->file) : copy_file(upload);
    if (upload->err) {
        upload->is_bad_file = true;
        request_resume(upload->request);
    } else {
        submit(upload);
    }
}

static void end(struct request *request)
{
    struct upload *upload = request->state;
    if (!upload->file) {
        request_suspend(request);
        submit(upload);
    } else {
        request_suspend(request);
        if (server_run(request->server, take_file, upload)) {
            upload->err = -EAGAIN;
            request_resume(request);
        }
    }
}

static void resumed(struct request *request)
{
    struct upload *upload = request->state;
    if (upload->is_bad_file && upload->err != -ENOSPC && upload->err != -ENOTRECOVERABLE) {
        /* The path in the query is meant, not the one in the URL. */
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "%s: %s", upload->file,
                     err_text(upload->err));
        return;
    }
    if (upload->err == -EEXIST && upload->entry.condition == TREE_ABSENT) {
        upload->err = -ESTALE;
    }
    if (upload->err == -ENOENT && upload->entry.condition == TREE_MATCHING) {
        upload->err = -ESTALE;
    }
    if (upload->err) {
        answer_failure(request, upload->err);
        return;
    }
    json_t *answer_body = json_object();
    json_object_set_new(answer_body, "path", json_of_bytes(request->path));
    if (!upload->is_link) {
        json_object_set_new(answer_body, "id", json_of_id(&upload->result.id));
        json_object_set_new(answer_body, "length",
                            json_integer((json_int_t)upload->result.length_bytes));
        json_object_set_new(answer_body, "new", json_integer((json_int_t)upload->result.new_bytes));
    }
    json_object_set_new(answer_body, "version", json_of_dot(&upload->dot));
    if (!upload->is_link) {
        ack_add_file(request, &upload->result.id);
    }
    ack_answer(request, upload->was_there ? MHD_HTTP_OK : MHD_HTTP_CREATED, answer_body,
               &upload->dot);
}

static void done(struct request *request)
{
    struct upload *upload = request->state;
    store_put_abort(upload->put);
    free(upload);
}

static const char *const parameters[] = {
    "mode",  "mtime", "symlink", "in_place",     "from",
    "inode", "keep",  "atomic",  ACK_PARAMETERS, ACK_COPIES_PARAMETERS,
    NULL,
};

const struct endpoint endpoint_fs_put = {
    .method = "PUT",
    .prefix = "/fs",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin,
    .body = body,
    .end = end,
    .resumed = resumed,
    .done = done,
};
