/* SPDX-License-Identifier: Apache-2.0 */

/*
 * News of files that come here, for receivers that want to know. Each file of which somebody wants
 * to know has a log of what came, in order, and each receiver a place in it, so that a block costs
 * the same however many listen. What came in NEWS_US is told at once, but to NEWS_RECEIVERS of them
 * only, and to the next of them after as long again: whoever hears of a block first asks for it and
 * can give it to the others, so all need not hear of it at a time and find that one of them gets
 * it.
 *
 * Which blocks were here before is looked up in the store once for a file, not for each question.
 */

#include <stdlib.h>

#include "base/list.h"
#include "node/blocks_state_priv.h"

#define NEWS_US ((uint64_t)20 * 1000)
#define NEWS_RECEIVERS 8u
/* Of fewer blocks it is told to half as many: or on a slow link each message would tell of one. */
#define NEWS_FEW_BLOCKS 4u
/* A receiver with so many bytes that the link did not take is told when it has taken them. */
#define UNWRITTEN_BYTES_MAX ((size_t)256 * 1024)
/* Files of whose growth a receiver may want to know; of more he is told nothing. */
#define SUBSCRIPTIONS_MAX 65536u

static struct growth *find_growth(struct blocks *blocks, const struct id *file)
{
    struct growth *growth = NULL;
    HASH_FIND(hh, blocks->growths, file, sizeof *file, growth);
    return growth;
}

static struct subscription *find_subscription(struct receiver *receiver, const struct id *file)
{
    struct subscription *subscription = NULL;
    HASH_FIND(hh, receiver->subscriptions, file, sizeof *file, subscription);
    return subscription;
}

static size_t log_count(const struct growth *growth)
{
    return growth->log.size / sizeof(uint32_t);
}

static uint32_t log_at(const struct growth *growth, size_t at)
{
    uint32_t index;
    memcpy(&index, growth->log.data + at * sizeof index, sizeof index);
    return index;
}

static void set_bit(struct buf *have, uint32_t index)
{
    if (index / 8 < have->size) {
        have->data[index / 8] |= (uint8_t)(1u << index % 8);
    }
}

static bool has_bit(const struct buf *have, uint32_t index)
{
    return index / 8 < have->size && have->data[index / 8] >> index % 8 & 1;
}

void growth_subscribe(struct receiver *receiver, const struct id *file)
{
    struct blocks *blocks = receiver->blocks;
    struct subscription *subscription = find_subscription(receiver, file);
    if (subscription) {
        subscription->is_active = false; /* until the new offer is said */
        return;
    }
    if (HASH_COUNT(receiver->subscriptions) >= SUBSCRIPTIONS_MAX) {
        return;
    }
    struct growth *growth = find_growth(blocks, file);
    if (!growth) {
        growth = mem_alloc(sizeof *growth);
        growth->file = *file;
        HASH_ADD(hh, blocks->growths, file, sizeof growth->file, growth);
    }
    subscription = mem_alloc(sizeof *subscription);
    subscription->file = *file;
    subscription->receiver = receiver;
    subscription->growth = growth;
    subscription->told_count = log_count(growth);
    DL_APPEND(growth->subscriptions, subscription);
    HASH_ADD(hh, receiver->subscriptions, file, sizeof subscription->file, subscription);
}

static void free_growth(struct blocks *blocks, struct growth *growth)
{
    if (growth->is_due) {
        LL_DELETE2(blocks->due, growth, due_next);
    }
    HASH_DEL(blocks->growths, growth);
    buf_done(&growth->have);
    buf_done(&growth->log);
    free(growth);
}

void growth_unsubscribe(struct subscription *subscription)
{
    struct growth *growth = subscription->growth;
    struct blocks *blocks = subscription->receiver->blocks;
    DL_DELETE(growth->subscriptions, subscription);
    HASH_DEL(subscription->receiver->subscriptions, subscription);
    free(subscription);
    if (!growth->subscriptions) {
        free_growth(blocks, growth);
    }
}

void growth_forget(struct receiver *receiver, const struct id *file)
{
    pthread_mutex_lock(&receiver->blocks->serve_lock);
    struct subscription *subscription = find_subscription(receiver, file);
    if (subscription) {
        growth_unsubscribe(subscription);
    }
    pthread_mutex_unlock(&receiver->blocks->serve_lock);
}

void growth_unsubscribe_all(struct receiver *receiver)
{
    while (receiver->subscriptions) {
        growth_unsubscribe(receiver->subscriptions);
    }
}

/* What is here by the store's word. */
static void look_up(struct store *store, const struct file_metadata *metadata, struct buf *ret_have)
{
    const size_t size = (metadata->blocks_count + 7) / 8;
    memset(buf_extend(ret_have, size), 0, size);
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        if (store_has_block(store, &metadata->blocks[i].id)) {
            set_bit(ret_have, (uint32_t)i);
        }
    }
}

/* Under serve_lock. What is known of the file without a look at the store, since somebody (the one
 * who asks, or another) wants to know of its growth. */
static bool copy_known(const struct growth *growth, struct subscription *subscription_or_null,
                       struct buf *ret_have)
{
    if (!growth || !growth->has_base) {
        return false;
    }
    buf_add(ret_have, buf_bytes(&growth->have));
    if (subscription_or_null) {
        subscription_or_null->told_count = log_count(growth);
    }
    return true;
}

/* Under serve_lock. `have` is what was here at some time after the subscription. */
static void add_base(struct subscription *subscription, struct buf *have)
{
    struct growth *growth = subscription->growth;
    for (size_t i = 0; i < log_count(growth); i++) {
        set_bit(have, log_at(growth, i));
    }
    if (!growth->has_base) {
        growth->has_base = true;
        buf_add(&growth->have, buf_bytes(have));
    }
    subscription->told_count = log_count(growth);
}

void growth_have(struct receiver *receiver, const struct id *file,
                 const struct file_metadata *metadata, struct buf *ret_have)
{
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    struct subscription *subscription = find_subscription(receiver, file);
    const bool is_known = copy_known(find_growth(blocks, file), subscription, ret_have);
    pthread_mutex_unlock(&blocks->serve_lock);
    if (is_known) {
        return;
    }
    look_up(blocks->store, metadata, ret_have);
    pthread_mutex_lock(&blocks->serve_lock);
    subscription = find_subscription(receiver, file);
    if (subscription) {
        add_base(subscription, ret_have);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

/* Under serve_lock. */
static void set_due(struct blocks *blocks, struct growth *growth)
{
    if (!growth->is_due) {
        growth->is_due = true;
        LL_PREPEND2(blocks->due, growth, due_next);
    }
    if (blocks->news_us == UINT64_MAX) {
        blocks->news_us = blocks_now_us() + NEWS_US;
        blocks_set_timer(blocks, blocks->news_us);
    }
}

void growth_activate(struct receiver *receiver, const struct id *file)
{
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    struct subscription *subscription = find_subscription(receiver, file);
    if (subscription) {
        subscription->is_active = true;
        if (subscription->told_count < log_count(subscription->growth)) {
            set_due(blocks, subscription->growth);
        }
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

void blocks_came(struct blocks *blocks, const struct id *file, uint32_t index)
{
    pthread_mutex_lock(&blocks->serve_lock);
    struct growth *growth = find_growth(blocks, file);
    /* What was told already is not told again, but for what came before the look at the store. */
    if (growth && index < FILE_METADATA_BLOCKS_MAX && !has_bit(&growth->have, index)) {
        buf_add(&growth->log, BYTES((const uint8_t *)&index, sizeof index));
        set_bit(&growth->have, index);
        set_due(blocks, growth);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

static bool is_among(struct bytes have, uint32_t index)
{
    return index / 8 < have.size && have.data[index / 8] >> index % 8 & 1;
}

/* Takes out of the log what is not among `have`; everybody keeps his place in it. */
static void prune_log(struct growth *growth, struct bytes have)
{
    const size_t count = log_count(growth);
    size_t *kept_before = mem_alloc_array(count + 1, sizeof *kept_before);
    struct buf kept = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        const uint32_t index = log_at(growth, i);
        const bool is_kept = is_among(have, index);
        kept_before[i + 1] = kept_before[i] + is_kept;
        if (is_kept) {
            buf_add(&kept, BYTES((const uint8_t *)&index, sizeof index));
        }
    }
    struct subscription *subscription;
    DL_FOREACH(growth->subscriptions, subscription)
    {
        subscription->told_count = kept_before[subscription->told_count];
    }
    buf_done(&growth->log);
    growth->log = kept;
    free(kept_before);
}

void blocks_set_have(struct blocks *blocks, const struct id *file, struct bytes have)
{
    pthread_mutex_lock(&blocks->serve_lock);
    struct growth *growth = find_growth(blocks, file);
    if (growth) {
        prune_log(growth, have);
        growth->has_base = true;
        buf_clear(&growth->have);
        buf_add(&growth->have, have);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

/* ---- telling -----------------------------------------------------------------------------------
 */

/* What a receiver is to be told. */
struct news {
    struct receiver *receiver; /* held */
    size_t unwritten_bytes;    /* of what was said before */
    struct buf frames;
    struct news *next;
};

static void format_news(struct subscription *subscription, struct buf *ret_frames)
{
    const struct growth *growth = subscription->growth;
    const size_t count = log_count(growth);
    while (subscription->told_count < count) {
        const size_t rest = count - subscription->told_count;
        const size_t part = rest < TRANSFER_MORE_MAX ? rest : TRANSFER_MORE_MAX;
        CLEANUP_BUF struct buf list = BUF_INIT;
        for (size_t i = 0; i < part; i++) {
            transfer_frame_put_index(&list, log_at(growth, subscription->told_count + i));
        }
        const struct transfer_frame more = {
            .type = TRANSFER_MORE, .file = growth->file, .list = buf_bytes(&list)};
        transfer_frame_format(&more, 0, ret_frames);
        subscription->told_count += part;
    }
}

static struct news *news_of(struct receiver *receiver, struct news **news)
{
    struct news *item;
    LL_FOREACH(*news, item)
    {
        if (item->receiver == receiver) {
            return item;
        }
    }
    item = mem_alloc(sizeof *item);
    item->receiver = receiver;
    item->unwritten_bytes = receiver_unwritten_bytes(receiver);
    receiver->refs_count++;
    LL_PREPEND(*news, item);
    return item;
}

/* False: he does not read. */
static bool add_news(struct subscription *subscription, struct news **news)
{
    struct news *item = news_of(subscription->receiver, news);
    if (item->unwritten_bytes + item->frames.size > UNWRITTEN_BYTES_MAX) {
        item->receiver->is_behind = true;
        return false;
    }
    format_news(subscription, &item->frames);
    return true;
}

/* Of those that have waited longest; true: others wait for their turn. */
static bool gather_news(struct growth *growth, struct news **news)
{
    struct subscription *told = NULL;
    struct subscription *subscription;
    struct subscription *next;
    unsigned count = 0;
    bool is_more = false;
    DL_FOREACH_SAFE(growth->subscriptions, subscription, next)
    {
        if (!subscription->is_active || subscription->told_count == log_count(growth)) {
            continue;
        }
        is_more = count >= NEWS_RECEIVERS;
        if (is_more) {
            break;
        }
        const size_t news_count = log_count(growth) - subscription->told_count;
        if (add_news(subscription, news)) {
            DL_DELETE(growth->subscriptions, subscription);
            DL_APPEND(told, subscription);
            count += news_count < NEWS_FEW_BLOCKS ? 2 : 1;
        }
    }
    DL_CONCAT(growth->subscriptions, told);
    return is_more;
}

void growth_catch_up(struct receiver *receiver)
{
    struct blocks *blocks = receiver->blocks;
    if (receiver_unwritten_bytes(receiver) > UNWRITTEN_BYTES_MAX) {
        return;
    }
    pthread_mutex_lock(&blocks->serve_lock);
    struct subscription *subscription = receiver->is_behind ? receiver->subscriptions : NULL;
    receiver->is_behind = false;
    for (; subscription; subscription = subscription->hh.next) {
        if (subscription->told_count < log_count(subscription->growth)) {
            set_due(blocks, subscription->growth);
        }
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

uint64_t blocks_tell_news(struct blocks *blocks, uint64_t now_us)
{
    struct news *news = NULL;
    pthread_mutex_lock(&blocks->serve_lock);
    if (now_us >= blocks->news_us) {
        struct growth *due = blocks->due;
        blocks->due = NULL;
        blocks->news_us = UINT64_MAX;
        while (due) {
            struct growth *growth = due;
            LL_DELETE2(due, growth, due_next);
            growth->is_due = false;
            if (gather_news(growth, &news)) {
                set_due(blocks, growth);
            }
        }
    }
    const uint64_t next_us = blocks->news_us;
    pthread_mutex_unlock(&blocks->serve_lock);
    while (news) {
        struct news *item = news;
        news = item->next;
        receiver_say(item->receiver, buf_bytes(&item->frames));
        growth_catch_up(item->receiver); /* it may have become writable meanwhile */
        buf_done(&item->frames);
        pthread_mutex_lock(&blocks->serve_lock);
        receiver_unhold(item->receiver);
        pthread_mutex_unlock(&blocks->serve_lock);
        free(item);
    }
    return next_us;
}
