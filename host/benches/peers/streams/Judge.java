/*
 * The processor: judges each login, sends it to the outputs or the dead letters, and counts by device type.
 *
 * Counts are of a partition and a window of processing time, as Weir's are. Their store has a changelog, which is written in the
 * same transaction as outputs and offsets.
 */
package streams;

import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

import logins.Rules;
import logins.Window;

import static java.nio.charset.StandardCharsets.US_ASCII;

/** One instance works for one partition. */
final class Judge implements Processor<byte[], byte[], byte[], Judge.Judged> {
    static final String STORE = "windows";
    static final String OUTPUT = "to-output";
    static final String REJECTED = "to-rejected";
    static final String COUNTS = "to-counts";

    /** What a sink writes, and the number of the partition that it belongs in. */
    record Judged(byte[] value, int partition) { }

    private final Rules rules = new Rules();
    private ProcessorContext<byte[], Judged> context;
    private KeyValueStore<String, Window> windows;
    private int partition;
    /** The start of the window of the last login. */
    private long last;

    @Override
    public void init(ProcessorContext<byte[], Judged> context) {
        this.context = context;
        windows = context.getStateStore(STORE);
        partition = context.taskId().partition();
        context.schedule(Duration.ofSeconds(1), PunctuationType.WALL_CLOCK_TIME, this::end);
    }

    @Override
    public void process(Record<byte[], byte[]> login) {
        long now = System.currentTimeMillis();
        String reason = rules.judge(login.value(), now);
        if (reason == null) {
            count(now);
            context.forward(login.withValue(new Judged(rules.output(), partition)), OUTPUT);
        } else {
            login.headers().add("reason", reason.getBytes(US_ASCII));
            context.forward(login.withValue(new Judged(login.value(), partition)), REJECTED);
        }
    }

    private void count(long now) {
        long open = Window.startAt(now);
        if (open != last) {
            end(now);
            last = open;
        }
        String device = rules.deviceType();
        windows.put(device, Window.add(windows.get(device), open));
    }

    /** Sends the counts of the window that is over, if there is one. */
    private void end(long now) {
        Map<String, Window> all = new TreeMap<>();
        try (var entries = windows.all()) {
            entries.forEachRemaining(entry -> all.put(entry.key, entry.value));
        }
        byte[] message = Window.end(all, Window.startAt(now), partition);
        if (message != null) {
            context.forward(new Record<>(null, new Judged(message, partition), now), COUNTS);
            all.forEach(windows::put);
        }
    }
}
