// The job on Benthos, the engine under MIT that is inside Redpanda Connect: its command line, its pipeline and its language
// Bloblang.
//
// The usual Kafka input and output belong to Redpanda Connect. Those here are on the same client, franz-go, and hand over nothing
// but what the job needs: the value, and the key, partition and time as metadata.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// The metadata of a message between input and output.
const (
	keyMeta       = "kafka_key"
	partitionMeta = "kafka_partition"
	timeMeta      = "kafka_time"
	topicMeta     = "topic"
	reasonMeta    = "reason"
	deviceMeta    = "device_type"
)

func main() {
	service.RunCLI(context.Background())
}
