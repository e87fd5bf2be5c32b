/* SPDX-License-Identifier: Apache-2.0 */
#include "http/endpoints_priv.h"

#include "base/mem.h"

const struct endpoint *const endpoints[] = {
    &endpoint_fs_get,        &endpoint_fs_put,
    &endpoint_fs_delete,     &endpoint_fs_post,
    &endpoint_file_metadata, &endpoint_file_data,
    &endpoint_block_data,    &endpoint_watch,
    &endpoint_watch_post,    &endpoint_watch_token,
    &endpoint_log,           &endpoint_conflicts,
    &endpoint_status,        &endpoint_metrics,
    &endpoint_health,        &endpoint_ready,
    &endpoint_scrub,         &endpoint_members_get,
    &endpoint_members_post,  &endpoint_where,
    &endpoint_locate,        &endpoint_dht_get,
    &endpoint_dht_put,       &endpoint_fetches_get,
    &endpoint_fetches_post,  &endpoint_fetches_delete,
    &endpoint_why,           &endpoint_wait,
    &endpoint_files_post,    &endpoint_fetches_await,
};
const size_t endpoints_count = ARRAY_SIZE(endpoints);
