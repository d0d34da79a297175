package main

// The input: a topic, read as a member of a group.

import (
	"context"
	"errors"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	spec := service.NewConfigSpec().Fields(
		service.NewStringField("broker"),
		service.NewStringField("topic"),
		service.NewStringField("group"),
		service.NewIntField("batch"),
		service.NewDurationField("commit_period"),
	)
	service.MustRegisterBatchInput("logins", spec, newInput)
}

// An input makes batches of one partition each. It commits, at least once, up to the first batch that is not yet acknowledged.
type input struct {
	settings []kgo.Opt
	batch    int
	client   *kgo.Client
	read     [][]*kgo.Record

	lock sync.Mutex
	// The batches of each partition that are in the pipeline, in their order.
	open map[int32][]*sent
}

// A batch in the pipeline.
type sent struct {
	last *kgo.Record
	done bool
}

func newInput(config *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
	broker, first := config.FieldString("broker")
	topic, second := config.FieldString("topic")
	group, third := config.FieldString("group")
	batch, fourth := config.FieldInt("batch")
	period, fifth := config.FieldDuration("commit_period")
	if err := errors.Join(first, second, third, fourth, fifth); err != nil {
		return nil, err
	}
	in := &input{batch: batch, open: map[int32][]*sent{}}
	in.settings = []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(period),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
			_ = client.CommitMarkedOffsets(ctx)
			in.forget(gone[topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { in.forget(gone[topic]) }),
	}
	return service.AutoRetryNacksBatched(in), nil
}

func (in *input) Connect(context.Context) (err error) {
	if in.client == nil {
		in.client, err = kgo.NewClient(in.settings...)
	}
	return err
}

func (in *input) forget(partitions []int32) {
	in.lock.Lock()
	defer in.lock.Unlock()
	for _, partition := range partitions {
		delete(in.open, partition)
	}
}

func (in *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	for len(in.read) == 0 {
		fetches := in.client.PollRecords(ctx, in.batch)
		if fetches.IsClientClosed() {
			return nil, nil, service.ErrEndOfInput
		}
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return nil, nil, err
		}
		fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
			if len(partition.Records) > 0 {
				in.read = append(in.read, partition.Records)
			}
		})
	}
	records := in.read[0]
	in.read = in.read[1:]
	batch := &sent{last: records[len(records)-1]}
	in.lock.Lock()
	in.open[batch.last.Partition] = append(in.open[batch.last.Partition], batch)
	in.lock.Unlock()
	return messages(records), func(_ context.Context, err error) error {
		if err == nil {
			in.acknowledge(batch)
		}
		return nil
	}, nil
}

func messages(records []*kgo.Record) service.MessageBatch {
	batch := make(service.MessageBatch, len(records))
	for at, record := range records {
		batch[at] = service.NewMessage(record.Value)
		batch[at].MetaSetMut(keyMeta, record.Key)
		batch[at].MetaSetMut(partitionMeta, record.Partition)
		batch[at].MetaSetMut(timeMeta, record.Timestamp)
	}
	return batch
}

func (in *input) acknowledge(batch *sent) {
	in.lock.Lock()
	defer in.lock.Unlock()
	batch.done = true
	open := in.open[batch.last.Partition]
	for len(open) > 0 && open[0].done {
		in.client.MarkCommitRecords(open[0].last)
		open = open[1:]
	}
	in.open[batch.last.Partition] = open
}

func (in *input) Close(ctx context.Context) error {
	if in.client == nil {
		return nil
	}
	err := in.client.CommitMarkedOffsets(ctx)
	in.client.Close()
	return err
}
