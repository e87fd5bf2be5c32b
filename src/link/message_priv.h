/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_MESSAGE_PRIV_H
#define LINK_MESSAGE_PRIV_H

#include "link/message.h"
#include "link/stream_priv.h"

struct connection;

/* Puts a message that was pending on the stream of its service. */
void message_send(struct connection *connection, struct write *write);
/* Bytes of a stream of messages; -EPROTO. */
[[nodiscard]] int message_receive(struct link_stream *stream, struct bytes bytes);
/* Lets go of a message that came in part. */
void message_drop_assembly(struct link_stream *stream);

#endif
