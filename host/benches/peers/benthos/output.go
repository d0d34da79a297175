package main

// The output: sends each message to the topic and partition in its metadata, and waits until all of a batch are taken.

import (
	"context"
	"errors"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

func init() {
	spec := service.NewConfigSpec().Fields(
		service.NewStringField("broker"),
		service.NewDurationField("linger"),
		service.NewIntField("max_in_flight"),
	)
	service.MustRegisterBatchOutput("judged", spec, newOutput)
}

type output struct {
	settings []kgo.Opt
	client   *kgo.Client
}

func newOutput(config *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
	broker, first := config.FieldString("broker")
	linger, second := config.FieldDuration("linger")
	inFlight, third := config.FieldInt("max_in_flight")
	settings := []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(linger),
		kgo.MaxBufferedRecords(200_000),
	}
	return &output{settings: settings}, service.BatchPolicy{}, inFlight, errors.Join(first, second, third)
}

func (out *output) Connect(context.Context) (err error) {
	if out.client == nil {
		out.client, err = kgo.NewClient(out.settings...)
	}
	return err
}

func (out *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	records := make([]*kgo.Record, len(batch))
	for at, message := range batch {
		value, err := message.AsBytes()
		if err != nil {
			return err
		}
		record := &kgo.Record{Value: value}
		record.Topic, _ = message.MetaGet(topicMeta)
		if key, found := message.MetaGetMut(keyMeta); found {
			record.Key, _ = key.([]byte)
		}
		if partition, found := message.MetaGetMut(partitionMeta); found {
			record.Partition, _ = partition.(int32)
		}
		if stamp, found := message.MetaGetMut(timeMeta); found {
			record.Timestamp, _ = stamp.(time.Time)
		}
		if reason, found := message.MetaGet(reasonMeta); found {
			record.Headers = []kgo.RecordHeader{{Key: reasonMeta, Value: []byte(reason)}}
		}
		records[at] = record
	}
	return out.client.ProduceSync(ctx, records...).FirstErr()
}

func (out *output) Close(context.Context) error {
	if out.client != nil {
		out.client.Close()
	}
	return nil
}
