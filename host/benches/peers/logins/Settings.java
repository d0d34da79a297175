/*
 * What the benchmark tells a peer on the JVM: the variables of Weir's configuration, under the names that the peers use.
 */
package logins;

/** Reads the environment. */
public final class Settings {
    public static final String BROKERS = needed("WEIR_KAFKA_BROKERS");
    public static final String GROUP = needed("WEIR_KAFKA_GROUP");
    public static final String INPUT = needed("WEIR_TOPICS_INPUT");
    public static final String OUTPUT = needed("WEIR_TOPICS_OUTPUT");
    public static final String REJECTED = needed("WEIR_TOPICS_REJECTED");
    public static final String COUNTS = needed("WEIR_TOPICS_COUNTS");
    public static final String STATE = needed("XDG_STATE_HOME");
    public static final boolean EXACTLY_ONCE = needed("WEIR_KAFKA_DELIVERY").equals("exactly-once");
    /** The length of a window of counts. */
    public static final long WINDOW_MILLIS = 60_000;

    private Settings() { }

    /** Returns a variable, or a default. */
    public static String get(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private static String needed(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is not set");
        }
        return value;
    }
}
