/*
 * The rules and the counts, as one function. Counts are of a partition and a window of processing time, as Weir's are, in the
 * state of the operator: state by key would need an exchange. Without keys there are no timers, so the first login after a window
 * ends it.
 */
package flink;

import java.util.Map;
import java.util.TreeMap;

import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

import logins.Rules;
import logins.Settings;
import logins.Window;

import static java.nio.charset.StandardCharsets.US_ASCII;

/** One instance works for the partitions of one chain. */
final class Judge extends ProcessFunction<ConsumerRecord<byte[], byte[]>, ProducerRecord<byte[], byte[]>>
    implements CheckpointedFunction {
    private transient Rules rules;
    /** The counts by partition and device type. */
    private transient Map<Integer, Map<String, Window>> windows;
    private transient ListState<Tuple3<Integer, String, byte[]>> state;
    /** The start of the window of the last login. */
    private long last;

    @Override
    public void processElement(ConsumerRecord<byte[], byte[]> login, Context context,
        Collector<ProducerRecord<byte[], byte[]>> out) {
        long now = System.currentTimeMillis();
        String reason = rules.judge(login.value(), now);
        if (reason == null) {
            count(login.partition(), now, out);
            out.collect(record(Settings.OUTPUT, login, rules.output()));
        } else {
            login.headers().add("reason", reason.getBytes(US_ASCII));
            out.collect(record(Settings.REJECTED, login, login.value()));
        }
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, ConsumerRecord<byte[], byte[]> login, byte[] value) {
        return new ProducerRecord<>(topic, login.partition(), login.timestamp(), login.key(), value, login.headers());
    }

    private void count(int partition, long now, Collector<ProducerRecord<byte[], byte[]>> out) {
        long open = Window.startAt(now);
        if (open != last) {
            windows.forEach((each, counts) -> {
                byte[] message = Window.end(counts, open, each);
                if (message != null) {
                    out.collect(new ProducerRecord<>(Settings.COUNTS, each, null, message));
                }
            });
            last = open;
        }
        Map<String, Window> counts = windows.computeIfAbsent(partition, none -> new TreeMap<>());
        counts.compute(rules.deviceType(), (device, before) -> Window.add(before, open));
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
        rules = new Rules();
        windows = new TreeMap<>();
        state = context.getOperatorStateStore().getListState(new ListStateDescriptor<>("windows",
            Types.TUPLE(Types.INT, Types.STRING, Types.PRIMITIVE_ARRAY(Types.BYTE))));
        for (var entry : state.get()) {
            windows.computeIfAbsent(entry.f0, none -> new TreeMap<>()).put(entry.f1, Window.read(entry.f2));
        }
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
        state.clear();
        for (var partition : windows.entrySet()) {
            for (var device : partition.getValue().entrySet()) {
                state.add(Tuple3.of(partition.getKey(), device.getKey(), device.getValue().bytes()));
            }
        }
    }
}
