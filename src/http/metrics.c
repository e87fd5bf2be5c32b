/* SPDX-License-Identifier: Apache-2.0 */

/* GET /metrics: figures as Prometheus text, without labels. */

#include <inttypes.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/server_priv.h"
#include "node/fetch.h"
#include "node/network.h"
#include "node/replica.h"

struct metric {
    const char *name;
    const char *type;
    const char *help;
    uint64_t value;
};

static void add_metrics(struct buf *text, const struct metric *metrics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct metric *metric = &metrics[i];
        buf_add_format(text, "# HELP artel_%s %s\n# TYPE artel_%s %s\nartel_%s %" PRIu64 "\n",
                       metric->name, metric->help, metric->name, metric->type, metric->name,
                       metric->value);
    }
}

static void add_server_metrics(struct request *request, struct buf *text)
{
    const struct server_counters *http = &request->server->counters;
    const struct node_counters *node = node_counters(request->node);
    const struct metric metrics[] = {
        {"http_connections", "gauge", "open connections", http->connections},
        {"http_connections_refused_total", "counter", "connections above the limit",
         http->connections_refused},
        {"http_connections_shed_total", "counter", "connections that were too slow",
         http->connections_shed},
        {"http_requests_total", "counter", "requests", http->requests},
        {"http_client_errors_total", "counter", "answers with 4xx", http->errors_4xx},
        {"http_server_errors_total", "counter", "answers with 5xx", http->errors_5xx},
        {"http_body_bytes_total", "counter", "bytes of bodies received", http->body_bytes},
        {"watchers", "gauge", "open streams of /watch", watchers_count(request->server->watchers)},
        {"changes_total", "counter", "changes of the tree", node->changes},
        {"changes_failed_total", "counter", "changes that failed", node->changes_failed},
        {"collected_total", "counter", "blocks and files collected", node->collected},
        {"copies_released_total", "counter", "copies kept for others that no path names any more",
         node->copies_released},
        {"cached_released_total", "counter", "files that were read here and no path names any more",
         node->cached_released},
        {"scrubbed_bytes_total", "counter", "bytes compared with their ids", node->scrubbed_bytes},
        {"scrub_bad_total", "counter", "blocks that scrub found wrong", node->scrub_bad},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_member_metrics(const struct network_summary *members,
                               const struct network_counters *network, struct buf *text)
{
    const struct cluster_counters *cluster = &network->cluster;
    const struct metric metrics[] = {
        {"members_alive", "gauge", "members that answer, this node too", members->alive_count},
        {"members_unreachable", "gauge", "members that do not answer", members->unreachable_count},
        {"members_left", "gauge", "members that said good-bye", members->left_count},
        {"members_agree", "gauge", "1: those heard of lately have the same list", members->agrees},
        {"node_isolated", "gauge", "1: there are others, and none answers", members->is_isolated},
        {"member_datagrams_received_total", "counter", "datagrams received",
         cluster->datagrams_received},
        {"member_datagrams_refused_total", "counter", "malformed, or from a stranger",
         cluster->datagrams_refused},
        {"member_datagrams_sent_total", "counter", "datagrams sent", cluster->datagrams_sent},
        {"member_datagram_bytes_received_total", "counter", "bytes of datagrams received",
         cluster->datagram_bytes_received},
        {"member_datagram_bytes_sent_total", "counter", "bytes of datagrams sent",
         cluster->datagram_bytes_sent},
        {"member_messages_sent_total", "counter", "pieces of lists sent", cluster->messages_sent},
        {"member_message_bytes_sent_total", "counter", "bytes of these",
         cluster->message_bytes_sent},
        {"member_message_bytes_received_total", "counter", "bytes of lists received",
         cluster->message_bytes_received},
        {"member_messages_refused_total", "counter", "malformed, or from a stranger",
         cluster->messages_refused},
        {"member_messages_dropped_total", "counter", "came faster than they were taken",
         network->messages_dropped},
        {"member_probes_sent_total", "counter", "probes", cluster->probes_sent},
        {"member_probes_unanswered_total", "counter", "probes without an answer in time",
         cluster->probes_unanswered},
        {"member_alerts_total", "counter", "votes begun here", cluster->alerts},
        {"member_accusations_total", "counter", "votes begun here that found a member unreachable",
         cluster->accusations},
        {"member_refutations_total", "counter", "times this node denied to be unreachable",
         cluster->refutations},
        {"member_broadcasts_begun_total", "counter", "broadcasts begun here",
         cluster->broadcasts_begun},
        {"member_broadcasts_forwarded_total", "counter", "broadcasts of others passed on",
         cluster->broadcasts_forwarded},
        {"member_broadcast_parts_resent_total", "counter", "parts of broadcasts sent again",
         cluster->broadcast_parts_resent},
        {"member_broadcast_parts_lost_total", "counter", "parts that nobody confirmed",
         cluster->broadcast_parts_lost},
        {"member_broadcast_parts_unwatched_total", "counter",
         "parts sent once only, since too many waited", cluster->broadcast_parts_unwatched},
        {"member_welcomes_withheld_total", "counter",
         "strangers that asked to join and were not answered, being too many",
         cluster->welcomes_withheld},
        {"member_syncs_total", "counter", "exchanges of lists begun here", cluster->syncs_begun},
        {"member_updates_refused_total", "counter", "news too odd to be taken",
         cluster->updates_refused},
        {"member_saves_total", "counter", "times the file of members was written", network->saves},
        {"member_saves_failed_total", "counter", "times it could not be", network->saves_failed},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_replica_metrics(struct network *network, const struct network_counters *counters,
                                struct buf *text)
{
    struct replica_summary summary;
    replica_summarise(network_replica(network), &summary);
    const struct tree_sync_counters *tree = &summary.counters;
    const struct metric metrics[] = {
        {"tree_agrees", "gauge", "1: those heard of lately have the same tree", summary.agrees},
        {"tree_merging", "gauge", "1: a snapshot is being merged", summary.is_merging},
        {"tree_ops_applied_total", "counter", "changes of others applied", tree->ops_applied},
        {"tree_ops_known_total", "counter", "changes of others that came again", tree->ops_known},
        {"tree_ops_early_total", "counter", "that came before their causes", tree->ops_early},
        {"tree_ops_dropped_total", "counter", "early ones without room", tree->ops_dropped},
        {"tree_ops_refused_total", "counter", "malformed or beyond limits", tree->ops_refused},
        {"tree_ops_forked_total", "counter", "that do not continue the log known here",
         tree->ops_forked},
        {"tree_messages_received_total", "counter", "messages about the tree received",
         tree->messages_received},
        {"tree_message_bytes_received_total", "counter", "bytes of these",
         tree->message_bytes_received},
        {"tree_messages_sent_total", "counter", "messages about the tree sent",
         tree->messages_sent},
        {"tree_message_bytes_sent_total", "counter", "bytes of these", tree->message_bytes_sent},
        {"tree_messages_refused_total", "counter", "malformed ones", tree->messages_refused},
        {"tree_messages_dropped_total", "counter", "came faster than they were taken",
         summary.inbox_dropped},
        {"tree_broadcasts_total", "counter", "broadcasts of changes begun here", tree->broadcasts},
        {"tree_broadcasts_dropped_total", "counter", "of these without room",
         counters->broadcasts_dropped},
        {"tree_pulls_total", "counter", "comparisons with others begun here", tree->pulls},
        {"tree_snapshots_served_total", "counter", "snapshots handed out", tree->snapshots_served},
        {"tree_snapshots_merged_total", "counter", "snapshots merged here", tree->snapshots_merged},
        {"tree_divergences_total", "counter", "others with the same changes and another tree",
         tree->divergences},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_fetch_metrics(struct network *network, struct buf *text)
{
    struct fetch_counters fetch;
    fetch_read_counters(network_fetch(network), &fetch);
    struct node_id shunned[FETCH_SHUNNED_MAX];
    const struct locate_counters *locate = &fetch.locate;
    const struct metric metrics[] = {
        {"locate_messages_received_total", "counter", "messages about who holds what received",
         locate->messages_received},
        {"locate_message_bytes_received_total", "counter", "bytes of these",
         locate->message_bytes_received},
        {"locate_messages_sent_total", "counter", "messages about who holds what sent",
         locate->messages_sent},
        {"locate_message_bytes_sent_total", "counter", "bytes of these",
         locate->message_bytes_sent},
        {"locate_messages_refused_total", "counter", "malformed ones, or of strangers",
         locate->messages_refused},
        {"locate_messages_dropped_total", "counter", "came faster than they were taken",
         fetch.messages_dropped},
        {"locate_rows", "gauge", "what others told this node that they have", locate->rows_count},
        {"locate_queued_keys", "gauge", "to be told to others", locate->queued_keys},
        {"locate_lookups_total", "counter", "keys looked for", locate->lookups},
        {"locate_lookups_failed_total", "counter", "that nobody was found for",
         locate->lookups_failed},
        {"locate_searches_total", "counter", "times that everyone was asked", locate->searches},
        {"locate_searches_silent_total", "counter", "members that did not answer one",
         locate->searches_silent},
        {"locate_keys_told_total", "counter", "keys told to others", locate->keys_told},
        {"locate_parts_differed_total", "counter", "parts in which others knew otherwise",
         locate->parts_differed},
        {"locate_rows_refused_total", "counter", "rows without room", locate->rows_refused},
        {"fetch_files", "gauge", "files that are fetched", fetch.files_running},
        {"fetch_files_aside", "gauge", "others of which a part is kept", fetch.files_aside},
        {"fetch_files_done_total", "counter", "files fetched", fetch.files_fetched},
        {"fetch_files_failed_total", "counter", "that could not be", fetch.files_failed},
        {"fetch_files_stopped_total", "counter", "that were given up", fetch.files_stopped},
        {"fetch_readers", "gauge", "answers that wait for what is fetched", fetch.readers},
        {"evicted_blocks_total", "counter", "cached blocks that made room", fetch.evicted_blocks},
        {"evicted_bytes_total", "counter", "bytes of them", fetch.evicted_bytes},
        {"evict_refused_blocks_total", "counter", "that stayed since no other node promised them",
         fetch.evict_refused_blocks},
        {"promised_blocks_total", "counter",
         "that other nodes may have evicted since they are here", fetch.promised_blocks},
        {"guests_needed_blocks_total", "counter",
         "blocks here for others alone that stayed since one of them may need them",
         fetch.guests_needed_blocks},
        {"guests_ended_blocks_total", "counter", "that none of them needed any more",
         fetch.guests_ended_blocks},
        {"fetch_surveys", "gauge", "requests that wait until others have a path", fetch.surveys},
        {"fetch_blocks_total", "counter", "blocks received", fetch.blocks_received},
        {"fetch_bytes_total", "counter", "bytes of these", fetch.bytes_received},
        {"fetch_blocks_bad_total", "counter", "blocks whose bytes were wrong", fetch.blocks_bad},
        {"fetch_blocks_hedged_total", "counter",
         "blocks asked for elsewhere too, as they were late", fetch.blocks_hedged},
        {"fetch_duplicate_bytes_total", "counter", "bytes of blocks that came twice",
         fetch.duplicate_bytes},
        {"fetch_raced_bytes_total", "counter",
         "of these, when only the last blocks were on their way", fetch.raced_bytes},
        {"fetch_shunned_total", "counter", "times that a member gave too many of these",
         fetch.shunned},
        {"fetch_shunned", "gauge", "members that are not asked for that",
         fetch_shunned(network_fetch(network), shunned)},
        {"fetch_no_space_total", "counter", "times that a fetch found the disk full",
         fetch.no_space},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_blocks_metrics(struct network *network, struct buf *text)
{
    struct fetch_counters fetch;
    fetch_read_counters(network_fetch(network), &fetch);
    const struct metric metrics[] = {
        {"blocks_receivers", "gauge", "members that ask this node for content", fetch.receivers},
        {"blocks_queued", "gauge", "blocks that they wait for", fetch.given_queued},
        {"blocks_sent_total", "counter", "blocks sent to them", fetch.given_blocks},
        {"blocks_sent_bytes_total", "counter", "bytes of these", fetch.given_bytes},
        {"blocks_refused_total", "counter", "blocks that they were sent elsewhere for",
         fetch.given_refused},
        {"blocks_wasted_bytes_total", "counter", "bytes received that were not wanted any more",
         fetch.wasted_bytes},
        {"blocks_streams_stalled_total", "counter", "streams ended since nothing moved",
         fetch.streams_stalled},
        {"blocks_streams_malformed_total", "counter", "streams ended since they made no sense",
         fetch.streams_malformed},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_udp_metrics(const struct udp_counters *udp, struct buf *text)
{
    const struct metric metrics[] = {
        {"udp_dropped_full_total", "counter", "datagrams not sent: no room in the kernel",
         udp->dropped_full},
        {"udp_dropped_long_total", "counter", "datagrams of no sensible size", udp->dropped_long},
        {"udp_send_errors_total", "counter", "datagrams not sent: no way there", udp->send_errors},
        {"udp_receive_errors_total", "counter", "errors told by the kernel", udp->receive_errors},
        {"udp_receive_buffer_bytes", "gauge", "of the kernel's, for us", udp->receive_buffer_bytes},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void add_link_metrics(const struct link_counters *link, struct buf *text)
{
    const struct metric metrics[] = {
        {"link_connections", "gauge", "connections with members", link->connections},
        {"link_streams", "gauge", "open streams", link->streams},
        {"link_assembly_bytes", "gauge", "held of messages that came in part",
         link->assembly_bytes},
        {"link_connected_total", "counter", "connections made", link->connected},
        {"link_sent_bytes_total", "counter", "bytes sent", link->sent_bytes},
        {"link_received_bytes_total", "counter", "bytes received", link->received_bytes},
        {"link_sent_frames_total", "counter", "frames sent", link->sent_frames},
        {"link_received_frames_total", "counter", "frames received", link->received_frames},
        {"link_unknown_frames_total", "counter", "frames of a newer version", link->unknown_frames},
        {"link_streams_opened_total", "counter", "streams opened here", link->streams_opened},
        {"link_streams_accepted_total", "counter", "streams opened by members",
         link->streams_accepted},
        {"link_streams_refused_total", "counter", "streams of members refused",
         link->streams_refused},
        {"link_messages_sent_total", "counter", "messages given to the kernel",
         link->messages_sent},
        {"link_messages_failed_total", "counter", "messages not sent", link->messages_failed},
        {"link_messages_received_total", "counter", "messages received", link->messages_received},
        {"link_messages_dropped_total", "counter", "messages received without a place for them",
         link->messages_dropped},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
    for (int i = LINK_REASON_NONE + 1; i < LINK_REASONS_COUNT; i++) {
        CLEANUP_FREE char *name =
            mem_format("link_ended_%s_total", link_reason_name((enum link_reason)i));
        const struct metric metric = {name, "counter", "connections that ended like this",
                                      link->ended[i]};
        add_metrics(text, &metric, 1);
    }
}

static void add_network_metrics(struct network *network, struct buf *text)
{
    struct network_summary members;
    struct network_counters counters;
    network_summarise(network, &members);
    network_read_counters(network, &counters);
    const struct metric events = {"member_events_total", "counter", "events of membership",
                                  member_events_newest(network_events(network))};
    add_member_metrics(&members, &counters, text);
    add_metrics(text, &events, 1);
    add_replica_metrics(network, &counters, text);
    add_fetch_metrics(network, text);
    add_blocks_metrics(network, text);
    add_udp_metrics(&counters.udp, text);
    add_link_metrics(&counters.link, text);
}

static void begin_metrics(struct request *request)
{
    struct tree_summary tree;
    struct store_status store;
    const int err = status_gather(request, &tree, &store);
    if (err) {
        answer_failure(request, err);
        return;
    }
    const struct metric metrics[] = {
        {"tree_entries", "gauge", "paths of the tree", tree.entries_count},
        {"feed_position", "counter", "changes applied here", tree.feed_last},
        {"store_files", "gauge", "file versions known", store.files_count},
        {"store_blocks", "gauge", "blocks known", store.blocks_count},
        {"store_lost_blocks", "gauge", "blocks without a good copy here", store.lost_count},
        {"store_segments", "gauge", "segment files", store.segments_count},
        {"store_live_bytes", "gauge", "bytes of blocks in segments", store.live_bytes},
        {"store_allocated_bytes", "gauge", "bytes that segments take", store.allocated_bytes},
        {"store_cache_bytes", "gauge", "bytes that may be evicted", store.cache_bytes},
        {"store_unreferenced", "gauge", "rows waiting for collection", store.unreferenced_count},
        {"store_dead_ranges", "gauge", "ranges waiting for their hole", store.dead_ranges_count},
        {"store_corrupt_total", "counter", "blocks found wrong and dropped", store.corrupt_count},
        {"store_withdrawn_total", "counter", "external files found changed", store.withdrawn_count},
        {"store_failed", "gauge", "1 after a failed sync", store.failed},
    };
    struct buf text = BUF_INIT;
    add_metrics(&text, metrics, ARRAY_SIZE(metrics));
    add_server_metrics(request, &text);
    add_network_metrics(request->server->options.network, &text);
    answer_buf(request, MHD_HTTP_OK, "text/plain; version=0.0.4", &text);
}

const struct endpoint endpoint_metrics = {
    .method = "GET",
    .prefix = "/metrics",
    .begin = begin_metrics,
};
