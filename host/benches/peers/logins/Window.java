/*
 * Logins by device type: those of the open window, and all so far. The two peers on the JVM keep it as their state.
 */
package logins;

import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Map;
import java.util.StringJoiner;

import static java.nio.charset.StandardCharsets.UTF_8;

/** The count of one device type in one partition. {@code start} is that of the window, in milliseconds. */
public record Window(long start, long count, long total) {
    /** Returns the start of the window that is open at a time. */
    public static long startAt(long now) {
        return now - now % Settings.WINDOW_MILLIS;
    }

    /** Returns the count with one login more, in the window that begins at {@code open}. {@code before} may be null. */
    public static Window add(Window before, long open) {
        if (before == null) {
            return new Window(open, 1, 1);
        }
        return new Window(open, before.start == open ? before.count + 1 : 1, before.total + 1);
    }

    /** Returns whether logins were counted in a window that ended before {@code open}. */
    public boolean isOver(long open) {
        return count > 0 && start < open;
    }

    /**
     * Returns the message about the window that is over where another one is open, and takes its counts out of {@code windows}.
     * Returns null if none is over.
     */
    public static byte[] end(Map<String, Window> windows, long open, int partition) {
        StringJoiner totals = new StringJoiner(",");
        StringJoiner counts = new StringJoiner(",");
        long start = 0;
        for (var entry : windows.entrySet()) {
            Window window = entry.getValue();
            // No device type needs an escape: only spellings of android and iOS are counted.
            totals.add("\"" + entry.getKey() + "\":" + window.total);
            if (window.isOver(open)) {
                counts.add("\"" + entry.getKey() + "\":" + window.count);
                start = window.start;
                entry.setValue(new Window(open, 0, window.total));
            }
        }
        String text = "{\"device_type_counts\":{%s},\"window\":{\"start\":\"%s\",\"end\":\"%s\",\"counts\":{%s}},"
            + "\"partitions\":[%d]}";
        return counts.length() == 0 ? null : text.formatted(totals, Instant.ofEpochMilli(start),
            Instant.ofEpochMilli(start + Settings.WINDOW_MILLIS), counts, partition).getBytes(UTF_8);
    }

    /** Returns the bytes that {@link #read} understands. */
    public byte[] bytes() {
        return ByteBuffer.allocate(3 * Long.BYTES).putLong(start).putLong(count).putLong(total).array();
    }

    /** Returns the window that was written. */
    public static Window read(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        return new Window(buffer.getLong(), buffer.getLong(), buffer.getLong());
    }
}
