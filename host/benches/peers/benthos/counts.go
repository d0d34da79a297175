package main

// The counts by device type, window by window. They are in memory only, because Benthos has no state that is committed together
// with offsets: after a crash they are wrong.

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The length of a window.
const window = time.Minute

func init() {
	spec := service.NewConfigSpec().Field(service.NewStringField("topic"))
	counts := &counts{Counts: map[string]int{}, Totals: map[string]int{}}
	// All threads of the pipeline count together.
	start := func(config *service.ParsedConfig, _ *service.Resources) (service.BatchProcessor, error) {
		topic, err := config.FieldString("topic")
		return counting{counts, topic}, err
	}
	service.MustRegisterBatchProcessor("counts", spec, start)
}

type counts struct {
	lock   sync.Mutex
	Start  time.Time      `json:"start"`
	Counts map[string]int `json:"counts"`
	Totals map[string]int `json:"device_type_counts"`
}

type counting struct {
	*counts
	topic string
}

// ProcessBatch counts the messages that have a device type, and adds a message about the last window to the first batch after it.
func (c counting) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	found := map[string]int{}
	for _, message := range batch {
		if device, passed := message.MetaGet(deviceMeta); passed {
			found[device]++
		}
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if start := time.Now().Truncate(window); !start.Equal(c.Start) {
		if len(c.Counts) > 0 {
			text, err := json.Marshal(c.counts)
			if err != nil {
				return nil, err
			}
			message := service.NewMessage(text)
			message.MetaSetMut(topicMeta, c.topic)
			batch = append(batch, message)
		}
		c.Start = start
		clear(c.Counts)
	}
	for device, count := range found {
		c.Counts[device] += count
		c.Totals[device] += count
	}
	return []service.MessageBatch{batch}, nil
}

func (counting) Close(context.Context) error {
	return nil
}
