/*
 * The job on Kafka Streams: one topology of a source, a processor with a store, and three sinks.
 *
 * The processor API instead of the DSL, because the DSL's groupBy would send every login through a topic of its own to count it.
 * Records stay in the partition of the same number.
 */
package streams;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;

import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.state.Stores;

import logins.Settings;
import logins.Window;

/** Runs until it is asked to end, or until a thread of it fails. */
public final class Main {
    /** The number of threads: one for each partition of the input. */
    private static final int THREADS = 3;
    /** The most time that closing may take. */
    private static final Duration CLOSE = Duration.ofSeconds(8);

    public static void main(String[] arguments) {
        KafkaStreams streams = new KafkaStreams(topology(), settings());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((state, before) -> {
            if (state == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(CLOSE)));
        streams.start();
    }

    private static Topology topology() {
        var bytes = Serdes.ByteArray();
        Serializer<Judge.Judged> value = (topic, judged) -> judged.value();
        StreamPartitioner<byte[], Judge.Judged> same = (topic, key, judged, count) -> Optional.of(Set.of(judged.partition()));
        var windows = Serdes.serdeFrom(
            (topic, window) -> window == null ? null : window.bytes(),
            (topic, written) -> written == null ? null : Window.read(written));
        var store = Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(Judge.STORE), Serdes.String(), windows);
        return new Topology()
            .addSource("logins", bytes.deserializer(), bytes.deserializer(), Settings.INPUT)
            .addProcessor("judge", Judge::new, "logins")
            .addStateStore(store.withCachingEnabled().withLoggingEnabled(Map.of()), "judge")
            .addSink(Judge.OUTPUT, Settings.OUTPUT, bytes.serializer(), value, same, "judge")
            .addSink(Judge.REJECTED, Settings.REJECTED, bytes.serializer(), value, same, "judge")
            .addSink(Judge.COUNTS, Settings.COUNTS, bytes.serializer(), value, same, "judge");
    }

    private static Properties settings() {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, Settings.GROUP);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Settings.BROKERS);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Settings.STATE);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
            Settings.EXACTLY_ONCE ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, THREADS);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Without it, the default of the guarantee: 100 ms with exactly once, 30 s with at least once.
        String commit = Settings.get("COMMIT_MS", "");
        if (!commit.isEmpty()) {
            settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, commit);
        }
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), Settings.get("LINGER_MS", "5"));
        return settings;
    }
}
