import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * One operator over orders, or over orders and payments: the benchmark's, on Kafka Streams. Those of
 * tables, and over orders by another key, stand in TableStreams.
 *
 * <p>Configuration: a properties file, whose path is the one argument: Kafka Streams' own
 * configuration, and the operator with its times (bench.operator, bench.size.ms, bench.advance.ms,
 * bench.grace.ms).
 */
public final class OperatorStreams {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** What all events have. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public abstract static class Timed {
    public long timestamp;
  }

  /** An order.created or a payment.completed as windows and joins of streams read it. */
  public static final class Event extends Timed {
    public Data data;
  }

  /** Their data. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class Data {
    public BigDecimal amount;
  }

  /** A window's state. */
  public static final class Counted {
    public long orders;
    public long cents;
  }

  public record Result(String key, long start, long end, Long left, Long right) {}

  static <T> Serde<T> json(Class<T> type) {
    ObjectReader reader = JSON.readerFor(type);
    ObjectWriter writer = JSON.writerFor(type);
    Serializer<T> serializer =
        (topic, value) -> {
          try {
            return value == null ? null : writer.writeValueAsBytes(value);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        };
    Deserializer<T> deserializer =
        (topic, bytes) -> {
          try {
            return bytes == null ? null : reader.readValue(bytes);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        };
    return Serdes.serdeFrom(serializer, deserializer);
  }

  /** Event time, as the payload has it. */
  public static final class EventTime implements TimestampExtractor {
    @Override
    public long extract(ConsumerRecord<Object, Object> record, long partitionTime) {
      return ((Timed) record.value()).timestamp;
    }
  }

  static Duration millis(Properties settings, String name) {
    return Duration.ofMillis(Long.parseLong(settings.getProperty(name)));
  }

  static <T extends Timed> KStream<String, T> events(
      StreamsBuilder builder, String topic, Class<T> type) {
    return builder.stream(
        topic,
        Consumed.with(Serdes.String(), json(type)).withTimestampExtractor(new EventTime()));
  }

  static long cents(BigDecimal amount) {
    return amount.movePointRight(2).longValueExact();
  }

  private static KStream<String, Long> cents(StreamsBuilder builder, String topic) {
    return events(builder, topic, Event.class).mapValues(event -> cents(event.data.amount));
  }

  // A new state each time: sliding windows put the one that was there into the next window, too.
  static Counted add(String key, Long cents, Counted before) {
    Counted counted = new Counted();
    counted.orders = before.orders + 1;
    counted.cents = before.cents + cents;
    return counted;
  }

  private static Counted merge(String key, Counted a, Counted b) {
    Counted both = new Counted();
    both.orders = a.orders + b.orders;
    both.cents = a.cents + b.cents;
    return both;
  }

  // Windows that have closed are told once a second of the clock, from the store, which forgets by event
  // time: with its default retention those of a fast catching-up are gone before they were told.
  private static final Duration RETENTION = Duration.ofHours(1);

  private static Materialized<String, Counted, WindowStore<Bytes, byte[]>> windowStore() {
    return Materialized.<String, Counted, WindowStore<Bytes, byte[]>>as("windows")
        .withKeySerde(Serdes.String())
        .withValueSerde(json(Counted.class))
        .withRetention(RETENTION)
        .withCachingEnabled();
  }

  private static KTable<Windowed<String>, Counted> windows(
      KGroupedStream<String, Long> orders, String operator, Properties settings) {
    Duration size = millis(settings, "bench.size.ms");
    Duration grace = millis(settings, "bench.grace.ms");
    EmitStrategy onceClosed = EmitStrategy.onWindowClose();
    switch (operator) {
      case "session":
        return orders
            .windowedBy(SessionWindows.ofInactivityGapAndGrace(size, grace))
            .emitStrategy(onceClosed)
            .aggregate(
                Counted::new,
                OperatorStreams::add,
                OperatorStreams::merge,
                Materialized.<String, Counted, SessionStore<Bytes, byte[]>>as("windows")
                    .withKeySerde(Serdes.String())
                    .withValueSerde(json(Counted.class))
                    .withRetention(RETENTION)
                    .withCachingEnabled());
      case "sliding":
        return orders
            .windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(size, grace))
            .emitStrategy(onceClosed)
            .aggregate(Counted::new, OperatorStreams::add, windowStore());
      default:
        return orders
            .windowedBy(
                TimeWindows.ofSizeAndGrace(size, grace)
                    .advanceBy(millis(settings, "bench.advance.ms")))
            .emitStrategy(onceClosed)
            .aggregate(Counted::new, OperatorStreams::add, windowStore());
    }
  }

  static KStream<String, Result> told(KTable<Windowed<String>, Counted> windows) {
    return windows
        .toStream()
        .map(
            (window, counted) ->
                KeyValue.pair(
                    window.key(),
                    new Result(
                        window.key(),
                        window.window().start(),
                        window.window().end(),
                        counted.orders,
                        counted.cents)));
  }

  private static StreamsBuilder topology(Properties settings) {
    StreamsBuilder builder = new StreamsBuilder();
    String operator = settings.getProperty("bench.operator");
    KStream<String, Result> results;
    if (TableStreams.OPERATORS.contains(operator)) {
      results = TableStreams.results(builder, operator, settings);
    } else if (operator.equals("inner") || operator.equals("outer")) {
      KStream<String, Long> orders = cents(builder, "orders");
      KStream<String, Long> payments = cents(builder, "payments");
      JoinWindows within =
          JoinWindows.ofTimeDifferenceAndGrace(
                  millis(settings, "bench.size.ms"), millis(settings, "bench.grace.ms"))
              .before(Duration.ZERO);
      ValueJoiner<Long, Long, Long[]> both = (order, payment) -> new Long[] {order, payment};
      StreamJoined<String, Long, Long> stores =
          StreamJoined.with(Serdes.String(), Serdes.Long(), Serdes.Long()).withStoreName("pairs");
      KStream<String, Long[]> joined =
          operator.equals("inner")
              ? orders.join(payments, both, within, stores)
              : orders.outerJoin(payments, both, within, stores);
      results = joined.mapValues((key, pair) -> new Result(key, 0, 0, pair[0], pair[1]));
    } else {
      KGroupedStream<String, Long> orders =
          cents(builder, "orders").groupByKey(Grouped.with(Serdes.String(), Serdes.Long()));
      results = told(windows(orders, operator, settings));
    }
    results.to("results", Produced.with(Serdes.String(), json(Result.class)));
    return builder;
  }

  public static void main(String[] args) throws Exception {
    Properties settings = new Properties();
    try (var file = Files.newInputStream(Path.of(args[0]))) {
      settings.load(file);
    }
    KafkaStreams streams = new KafkaStreams(topology(settings).build(settings), settings);
    CountDownLatch over = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  // By default a member that closes stays in the group, and the next start waits
                  // for its session to end: 45 s that the other systems do not wait either.
                  streams.close(
                      CloseOptions.timeout(Duration.ofSeconds(10))
                          .withGroupMembershipOperation(
                              CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
                  over.countDown();
                }));
    streams.start();
    over.await();
  }

  private OperatorStreams() {}
}
