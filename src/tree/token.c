/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A watcher that has seen the feed up to a position has seen of each log what this database has
 * now, less the ops behind the position. Elsewhere the feed has another order, but the same logs:
 * what it lacks are the ops behind those sequences, and an op is kept together with its position in
 * the feed. So one look for the first op that it lacks of a log tells whether all of them are kept;
 * and going back from the end of the feed until all were met finds where to begin. Where that takes
 * too long, the beginning of the feed does as well, since what was seen is left out anyway.
 *
 * Of logs that are not in the token only the sum is known, what they added to that of the vector.
 * It is compared with the sums that they can have had here: with all that there is now; without the
 * logs that are kept from their first op, which were unknown then; and at each earlier position,
 * going back: the hash of an op is in the one after it. If none is the same, nobody can tell what
 * was seen: a gap.
 */

#include "tree/token.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "hash/crc32c.h"
#include "tree/rows_priv.h"
#include "wire/fields.h"

#define TOKEN_VERSION 1
#define TOKEN_HEAD_BYTES (1 + 8 + 4)
#define TOKEN_LOG_BYTES 24
#define TOKEN_CRC_BYTES 4

/* ---- what was seen ---- */

void tree_seen_done(struct tree_seen *seen)
{
    free(seen->logs);
    *seen = (struct tree_seen){0};
}

static int compare_origins(const struct origin_id *a, const struct origin_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static int compare_logs(const void *left, const void *right)
{
    const struct tree_seen_log *a = left;
    const struct tree_seen_log *b = right;
    return compare_origins(&a->origin, &b->origin);
}

static const struct tree_seen_log *seen_log(const struct tree_seen *seen,
                                            const struct origin_id *origin)
{
    const struct tree_seen_log key = {.origin = *origin};
    return seen->count == 0
               ? NULL
               : bsearch(&key, seen->logs, seen->count, sizeof *seen->logs, compare_logs);
}

bool tree_seen_has(const struct tree_seen *seen, const struct dot *dot)
{
    const struct tree_seen_log *log = seen_log(seen, &dot->origin);
    return log && dot->seq <= log->seq;
}

/* ---- text ---- */

void tree_token_format(const struct tree_token *token, struct buf *ret_text)
{
    CHECK(token->seen.count <= TREE_TOKEN_LOGS_MAX);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    field_put_u8(&bytes, TOKEN_VERSION);
    field_put_u64(&bytes, token->others);
    field_put_u32(&bytes, (uint32_t)token->seen.count);
    for (size_t i = 0; i < token->seen.count; i++) {
        const struct tree_seen_log *log = &token->seen.logs[i];
        buf_add(&bytes, BYTES(log->origin.bytes, sizeof log->origin.bytes));
        field_put_u64(&bytes, log->seq);
    }
    field_put_u32(&bytes, crc32c(buf_bytes(&bytes)));
    char *text = mem_alloc(2 * bytes.size + 1);
    hex_format(bytes.data, bytes.size, text);
    buf_add_string(ret_text, text);
    free(text);
}

/* `count` logs. */
static int read_logs(const uint8_t *at, struct tree_seen *seen, size_t count)
{
    seen->logs = mem_alloc_array(count + 1, sizeof *seen->logs);
    for (size_t i = 0; i < count; i++, at += TOKEN_LOG_BYTES) {
        struct tree_seen_log *log = &seen->logs[i];
        memcpy(log->origin.bytes, at, sizeof log->origin.bytes);
        log->seq = codec_get_le64(at + sizeof log->origin.bytes);
        if (log->seq == 0 ||
            (i > 0 && compare_origins(&seen->logs[i - 1].origin, &log->origin) >= 0)) {
            return -EINVAL;
        }
    }
    seen->count = count;
    return 0;
}

static int parse_bytes(struct bytes bytes, struct tree_token *ret_token)
{
    if (bytes.size > 0 && bytes.data[0] > TOKEN_VERSION) {
        return -EPROTONOSUPPORT;
    }
    if (bytes.size < TOKEN_HEAD_BYTES + TOKEN_CRC_BYTES || bytes.data[0] != TOKEN_VERSION) {
        return -EINVAL;
    }
    const struct bytes body = BYTES(bytes.data, bytes.size - TOKEN_CRC_BYTES);
    if (codec_get_le32(body.data + body.size) != crc32c(body)) {
        return -EINVAL;
    }
    struct tree_token token = {.others = codec_get_le64(body.data + 1)};
    const size_t count = codec_get_le32(body.data + 1 + 8);
    const size_t logs_bytes = body.size - TOKEN_HEAD_BYTES;
    if (logs_bytes % TOKEN_LOG_BYTES != 0 || logs_bytes / TOKEN_LOG_BYTES != count) {
        return -EINVAL;
    }
    const int err = read_logs(body.data + TOKEN_HEAD_BYTES, &token.seen, count);
    if (err) {
        tree_seen_done(&token.seen);
        return err;
    }
    *ret_token = token;
    return 0;
}

int tree_token_parse(struct bytes text, struct tree_token *ret_token)
{
    if (text.size > TREE_TOKEN_CHARS_MAX) {
        return -EFBIG;
    }
    const size_t size = text.size / 2;
    uint8_t *bytes = mem_alloc(size + 1);
    int err = text.size % 2 == 0 ? hex_parse(text, size, bytes) : -EINVAL;
    if (!err) {
        err = parse_bytes(BYTES(bytes, size), ret_token);
    }
    free(bytes);
    return err;
}

/* ---- the logs of this database ---- */

struct log {
    struct origin_id origin;
    uint64_t seq; /* of its last op here; 0: none */
    uint64_t sum; /* what it adds to that of the vector */
    uint64_t seen;
    bool is_listed; /* in the token */
    bool matters;   /* something behind the beginning was seen */
};

/* By the number of their origin, from 1. */
struct logs {
    struct log *logs;
    size_t count;
};

static void logs_done(struct logs *logs)
{
    free(logs->logs);
}
#define CLEANUP_LOGS __attribute__((cleanup(logs_done)))

static uint64_t sum_of(const struct id *hash)
{
    return codec_get_le64(hash->bytes);
}

/* What is in the vector now, all of it seen. */
static int load_logs(const struct tree *tree, struct kv_txn *txn, const struct tree_state *state,
                     struct logs *logs)
{
    logs->count = state->next_origin - 1;
    logs->logs = mem_alloc_array(logs->count + 1, sizeof *logs->logs);
    for (size_t i = 0; i < logs->count; i++) {
        struct origin_row row;
        const int err = origin_get(tree, txn, (uint32_t)i + 1, &row);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        logs->logs[i] = (struct log){
            .origin = row.id,
            .seq = row.seq,
            .sum = row.seq > 0 ? sum_of(&row.hash) : 0,
            .seen = row.seq,
        };
    }
    return 0;
}

/* The log that a row of the feed names. */
static struct log *log_of(const struct logs *logs, const struct feed_row *row)
{
    return row->origin > 0 && row->origin <= logs->count ? &logs->logs[row->origin - 1] : NULL;
}

static int is_kept(const struct tree *tree, struct kv_txn *txn, const struct logs *logs,
                   const struct log *log, uint64_t seq, bool *ret_is_kept)
{
    struct id previous;
    const int err = op_get_previous(tree, txn, (uint32_t)(log - logs->logs) + 1, seq, &previous);
    *ret_is_kept = !err;
    return err == -ENOENT ? 0 : err;
}

static int get_row(const struct tree *tree, struct kv_txn *txn, uint64_t position,
                   struct feed_row *ret_row)
{
    uint8_t key[8];
    struct bytes value;
    codec_put_be64(key, position);
    const int err = kv_get(txn, tree_table(tree, TREE_FEED), BYTES(key, sizeof key), &value);
    return err ? (err == -ENOENT ? -EIO : err) : feed_decode(value, ret_row);
}

/* ---- making ---- */

/* What is behind the position was not seen. */
static int take_off(const struct tree *tree, struct kv_txn *txn, const struct tree_state *state,
                    uint64_t position, const struct logs *logs)
{
    for (uint64_t at = position + 1; at <= state->feed_last; at++) {
        struct feed_row row;
        const int err = get_row(tree, txn, at, &row);
        if (err) {
            return err;
        }
        if (row.kind != TREE_FEED_OP) {
            return -ESTALE;
        }
        struct log *log = log_of(logs, &row);
        if (!log || row.seq == 0) {
            return -EIO;
        }
        log->seen = log->seen < row.seq ? log->seen : row.seq - 1;
    }
    return 0;
}

/* Which logs are told one by one: of a few all, of many those that the feed has something of. */
static int choose_listed(const struct tree *tree, struct kv_txn *txn, const struct logs *logs)
{
    const bool is_few = logs->count <= TREE_TOKEN_LOGS_FEW;
    for (size_t i = 0; i < logs->count; i++) {
        struct log *log = &logs->logs[i];
        log->is_listed = is_few;
        const int err =
            is_few || log->seq == 0 ? 0 : is_kept(tree, txn, logs, log, log->seq, &log->is_listed);
        if (err) {
            return err;
        }
    }
    return 0;
}

static int add_token(const struct logs *logs, struct buf *ret_text)
{
    struct tree_token token = {0};
    token.seen.logs = mem_alloc_array(logs->count + 1, sizeof *token.seen.logs);
    for (size_t i = 0; i < logs->count; i++) {
        const struct log *log = &logs->logs[i];
        if (!log->is_listed) {
            token.others += log->sum;
        } else if (log->seen > 0) {
            token.seen.logs[token.seen.count++] = (struct tree_seen_log){log->origin, log->seen};
        }
    }
    const bool fits = token.seen.count <= TREE_TOKEN_LOGS_MAX;
    if (fits) {
        qsort(token.seen.logs, token.seen.count, sizeof *token.seen.logs, compare_logs);
        tree_token_format(&token, ret_text);
    }
    tree_seen_done(&token.seen);
    return fits ? 0 : -EFBIG;
}

int tree_token_make(const struct tree *tree, struct kv_txn *txn, uint64_t position,
                    struct buf *ret_text)
{
    struct tree_state state;
    int err = state_get(tree, txn, &state);
    if (err) {
        return err;
    }
    if (position > state.feed_last) {
        return -EINVAL;
    }
    if (position + 1 < state.feed_first) {
        return -ESTALE;
    }
    if (state.feed_last - position > TREE_TOKEN_LOOKS_MAX) {
        return -EAGAIN;
    }
    CLEANUP_LOGS struct logs logs = {0};
    err = load_logs(tree, txn, &state, &logs);
    if (!err) {
        err = take_off(tree, txn, &state, position, &logs);
    }
    if (!err) {
        err = choose_listed(tree, txn, &logs);
    }
    return err ? err : add_token(&logs, ret_text);
}

/* ---- beginning ---- */

struct search {
    const struct tree *tree;
    struct kv_txn *txn;
    const struct tree_token *token;
    struct tree_state state;
    struct logs logs;
    uint64_t lacking;    /* ops that were not seen and not met yet */
    uint64_t others;     /* sum over logs that are not in the token, as of where the search is */
    bool knows_others;   /* it is that of the token: what it has seen of them is known */
    uint64_t position;   /* behind it all that is lacking was met */
    bool is_from_oldest; /* not all was looked for: the beginning is the oldest position */
};

/* The logs of the token: what it lacks of them must be kept. */
static int read_listed(struct search *search)
{
    for (size_t i = 0; i < search->token->seen.count; i++) {
        const struct tree_seen_log *seen = &search->token->seen.logs[i];
        uint32_t number = 0;
        int err = origin_number(search->tree, search->txn, &seen->origin, &number);
        if (err == -ENOENT) {
            continue; /* nothing of it came here yet */
        }
        if (err) {
            return err;
        }
        struct log *log = &search->logs.logs[number - 1];
        log->is_listed = true;
        log->seen = seen->seq;
        log->matters = log->seen > log->seq;
        if (log->seen >= log->seq) {
            continue;
        }
        bool kept = false;
        err = is_kept(search->tree, search->txn, &search->logs, log, log->seen + 1, &kept);
        if (err || !kept) {
            return err ? err : -ESTALE;
        }
        search->lacking += log->seq - log->seen;
    }
    return 0;
}

/* If the sum is that of the others without those that are kept here as a whole, these are new. */
static int try_new_logs(struct search *search)
{
    uint64_t sum = search->others;
    bool *is_new = mem_alloc_array(search->logs.count + 1, sizeof *is_new);
    int err = 0;
    for (size_t i = 0; !err && i < search->logs.count; i++) {
        const struct log *log = &search->logs.logs[i];
        if (!log->is_listed && log->seq > 0) {
            err = is_kept(search->tree, search->txn, &search->logs, log, 1, &is_new[i]);
            sum -= is_new[i] ? log->sum : 0;
        }
    }
    search->knows_others = !err && sum == search->token->others;
    for (size_t i = 0; search->knows_others && i < search->logs.count; i++) {
        struct log *log = &search->logs.logs[i];
        if (is_new[i]) {
            log->seen = 0;
            search->lacking += log->seq;
        }
    }
    free(is_new);
    return err;
}

static int read_others(struct search *search)
{
    for (size_t i = 0; i < search->logs.count; i++) {
        const struct log *log = &search->logs.logs[i];
        search->others += log->is_listed ? 0 : log->sum;
    }
    search->knows_others = search->others == search->token->others;
    return search->knows_others ? 0 : try_new_logs(search);
}

/* The op of a log that is not in the token was not there yet. */
static int step_back(struct search *search, const struct feed_row *row, struct log *log)
{
    struct id previous;
    const int err = op_get_previous(search->tree, search->txn, row->origin, row->seq, &previous);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    const uint64_t sum = row->seq > 1 ? sum_of(&previous) : 0;
    search->others += sum - log->sum;
    log->sum = sum;
    log->seen = row->seq - 1;
    search->knows_others = search->others == search->token->others;
    return 0;
}

/* One position back. */
static int look_at(struct search *search)
{
    struct feed_row row;
    int err = get_row(search->tree, search->txn, search->position, &row);
    if (err) {
        return err;
    }
    if (row.kind != TREE_FEED_OP) {
        /* What the vector was before is not known. */
        return search->knows_others ? 0 : -ESTALE;
    }
    struct log *log = log_of(&search->logs, &row);
    if (!log || row.seq == 0) {
        return -EIO;
    }
    if (!search->knows_others && !log->is_listed) {
        return step_back(search, &row, log);
    }
    if (row.seq <= log->seen) {
        log->matters = true;
    } else if (search->lacking > 0) {
        search->lacking--;
    }
    return 0;
}

static int find_begin(struct search *search)
{
    const uint64_t last = search->state.feed_last;
    search->position = last;
    while (!search->knows_others || search->lacking > 0) {
        const bool is_at_end = search->position < search->state.feed_first;
        if (is_at_end || last - search->position >= TREE_TOKEN_LOOKS_MAX) {
            search->position = search->state.feed_first - 1;
            search->is_from_oldest = true;
            return search->knows_others ? 0 : -ESTALE;
        }
        const int err = look_at(search);
        if (err) {
            return err;
        }
        search->position--;
    }
    return 0;
}

/* Keeps what can be met again. */
static void fill_seen(const struct search *search, struct tree_seen *ret_seen)
{
    const struct tree_seen *listed = &search->token->seen;
    struct tree_seen seen = {
        .logs = mem_alloc_array(search->logs.count + listed->count + 1, sizeof *seen.logs)};
    for (size_t i = 0; i < search->logs.count; i++) {
        const struct log *log = &search->logs.logs[i];
        if (log->seen > 0 && (log->matters || search->is_from_oldest)) {
            seen.logs[seen.count++] = (struct tree_seen_log){log->origin, log->seen};
        }
    }
    qsort(seen.logs, seen.count, sizeof *seen.logs, compare_logs);
    const size_t known_count = seen.count;
    for (size_t i = 0; i < listed->count; i++) {
        uint32_t number = 0;
        if (origin_number(search->tree, search->txn, &listed->logs[i].origin, &number)) {
            seen.logs[seen.count++] = listed->logs[i];
        }
    }
    if (seen.count > known_count) {
        qsort(seen.logs, seen.count, sizeof *seen.logs, compare_logs);
    }
    *ret_seen = seen;
}

int tree_token_begin(const struct tree *tree, struct kv_txn *txn, const struct tree_token *token,
                     uint64_t *ret_position, struct tree_seen *ret_seen)
{
    struct search search = {.tree = tree, .txn = txn, .token = token};
    int err = state_get(tree, txn, &search.state);
    if (!err) {
        err = load_logs(tree, txn, &search.state, &search.logs);
    }
    if (!err) {
        err = read_listed(&search);
    }
    if (!err) {
        err = read_others(&search);
    }
    if (!err) {
        err = find_begin(&search);
    }
    if (!err) {
        *ret_position = search.position;
        fill_seen(&search, ret_seen);
    }
    logs_done(&search.logs);
    return err;
}
