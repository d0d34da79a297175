/*
 * The job on Flink: the DataStream API, exactly once, in one local process.
 *
 * Source, judge and sink are one chain without any exchange between them, one for each partition. So nothing is serialized but
 * what goes to Kafka. A single sink writes outputs, dead letters and counts: one transaction a checkpoint instead of three.
 */
package flink;

import java.time.Duration;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.clients.producer.ProducerRecord;

import logins.Settings;

/** Runs until it is ended, or until something fails. */
public final class Main {
    /** The number of chains: one for each partition of the input. */
    private static final int PARALLELISM = 3;
    /** Longer than any checkpoint takes, and within the 15 minutes that a broker allows. */
    private static final Duration TRANSACTION = Duration.ofMinutes(10);

    static final TypeInformation<ProducerRecord<byte[], byte[]>> JUDGED = TypeInformation.of(new TypeHint<>() { });

    public static void main(String[] arguments) throws Exception {
        Configuration settings = new Configuration();
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        var environment = StreamExecutionEnvironment.createLocalEnvironment(PARALLELISM, settings);
        environment.enableCheckpointing(Long.parseLong(Settings.get("COMMIT_MS", "1000")));
        environment.fromSource(source(), WatermarkStrategy.noWatermarks(), "logins")
            .process(new Judge()).returns(JUDGED)
            .sinkTo(sink());
        environment.execute(Settings.GROUP);
    }

    private static KafkaSource<ConsumerRecord<byte[], byte[]>> source() {
        return KafkaSource.<ConsumerRecord<byte[], byte[]>>builder()
            .setBootstrapServers(Settings.BROKERS)
            .setGroupId(Settings.GROUP)
            .setTopics(Settings.INPUT)
            .setStartingOffsets(OffsetsInitializer.committedOffsets(OffsetResetStrategy.EARLIEST))
            .setProperty("isolation.level", "read_committed")
            .setProperty("max.poll.records", "5000")
            .setDeserializer(new Whole())
            .build();
    }

    private static KafkaSink<ProducerRecord<byte[], byte[]>> sink() {
        KafkaRecordSerializationSchema<ProducerRecord<byte[], byte[]>> same = (record, context, time) -> record;
        return KafkaSink.<ProducerRecord<byte[], byte[]>>builder()
            .setBootstrapServers(Settings.BROKERS)
            .setDeliveryGuarantee(Settings.EXACTLY_ONCE ? DeliveryGuarantee.EXACTLY_ONCE : DeliveryGuarantee.AT_LEAST_ONCE)
            .setTransactionalIdPrefix(Settings.GROUP)
            .setProperty("transaction.timeout.ms", Long.toString(TRANSACTION.toMillis()))
            .setProperty("compression.type", "lz4")
            .setProperty("batch.size", Integer.toString(256 * 1024))
            .setProperty("linger.ms", Settings.get("LINGER_MS", "5"))
            .setRecordSerializer(same)
            .build();
    }

    /** Leaves a record as the client has read it. */
    private static final class Whole implements KafkaRecordDeserializationSchema<ConsumerRecord<byte[], byte[]>> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<ConsumerRecord<byte[], byte[]>> out) {
            out.collect(record);
        }

        @Override
        public TypeInformation<ConsumerRecord<byte[], byte[]>> getProducedType() {
            return TypeInformation.of(new TypeHint<>() { });
        }
    }
}
