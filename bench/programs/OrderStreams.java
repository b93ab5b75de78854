import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.JsonNode;
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
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The benchmark's work on Kafka Streams: high-value orders to a topic, users' orders counted with the
 * tenth announced on another, and orders and amounts by user and minute.
 *
 * <p>Configuration: a properties file, whose path is the one argument; it is Kafka Streams' own
 * configuration, complete but for the serdes.
 */
public final class OrderStreams {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final BigDecimal HIGH = new BigDecimal(1000);
  private static final int VIP_ORDERS = 10;

  /** An order.created as the work reads it; other fields are passed over. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class OrderEvent {
    public String event_id;
    public String event_type;
    public String aggregate_id;
    public long timestamp;
    public String correlation_id;
    public Order data;
  }

  /** An order's data. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class Order {
    public String order_id;
    public String user_id;
    public BigDecimal amount;
    public String currency;
    public JsonNode items;
  }

  /** A derived event. */
  public record Derived(
      String event_id,
      String event_type,
      String aggregate_id,
      long timestamp,
      int version,
      String correlation_id,
      String causation_id,
      Object data) {}

  public record HighValue(
      String order_id,
      String user_id,
      BigDecimal amount,
      String currency,
      JsonNode items,
      String category,
      boolean alert_sent) {}

  public record Vip(String user_id, long order_count, String order_id) {}

  /** A row of user_orders; amounts are whole cents inside. */
  public static final class UserOrders {
    public long orders;
    public long amount_cents;
    public long first_order_at = Long.MAX_VALUE;
    public long last_order_at;
    public boolean vip;
  }

  /** A row of user_order_minutes. */
  public static final class Minute {
    public long orders;
    public long amount_cents;
  }

  private static <T> Serde<T> json(Class<T> type) {
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
      return ((OrderEvent) record.value()).timestamp;
    }
  }

  private static long cents(BigDecimal amount) {
    return amount.movePointRight(2).longValueExact();
  }

  /** Counts a user's orders; forwards the event of the tenth. */
  public static final class CountOrders
      extends ContextualProcessor<String, OrderEvent, String, Derived> {
    private KeyValueStore<String, UserOrders> users;

    @Override
    public void init(ProcessorContext<String, Derived> context) {
      super.init(context);
      users = context.getStateStore("user_orders");
    }

    @Override
    public void process(Record<String, OrderEvent> record) {
      OrderEvent event = record.value();
      UserOrders row = users.get(record.key());
      if (row == null) {
        row = new UserOrders();
      }
      row.orders += 1;
      row.amount_cents += cents(event.data.amount);
      row.first_order_at = Math.min(row.first_order_at, event.timestamp);
      row.last_order_at = Math.max(row.last_order_at, event.timestamp);
      if (row.orders == VIP_ORDERS) {
        row.vip = true;
        Vip vip = new Vip(record.key(), row.orders, event.data.order_id);
        context().forward(record.withValue(derived(event, "user.vip_upgraded", record.key(), vip)));
      }
      users.put(record.key(), row);
    }
  }

  private static Derived derived(OrderEvent event, String type, String aggregate, Object data) {
    String correlation = event.correlation_id == null ? event.event_id : event.correlation_id;
    return new Derived(
        event.event_id + ":" + type,
        type,
        aggregate,
        event.timestamp,
        1,
        correlation,
        event.event_id,
        data);
  }

  private static StreamsBuilder topology() {
    Serde<OrderEvent> orderSerde = json(OrderEvent.class);
    Serde<Derived> derivedSerde = json(Derived.class);
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("user_orders"),
                Serdes.String(),
                json(UserOrders.class))
            .withCachingEnabled());
    KStream<String, OrderEvent> orders =
        builder.stream(
            "orders",
            Consumed.with(Serdes.String(), orderSerde).withTimestampExtractor(new EventTime()));
    orders
        .filter((key, event) -> event.data.amount.compareTo(HIGH) > 0)
        .mapValues(
            event -> {
              Order o = event.data;
              HighValue data =
                  new HighValue(
                      o.order_id, o.user_id, o.amount, o.currency, o.items, "HIGH_VALUE", true);
              return derived(event, "order.high_value", o.order_id, data);
            })
        .to("high-value-orders", Produced.with(Serdes.String(), derivedSerde));
    orders
        .process(CountOrders::new, "user_orders")
        .to("vip-upgrades", Produced.with(Serdes.String(), derivedSerde));
    orders
        .groupByKey(Grouped.with(Serdes.String(), orderSerde))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofHours(24)))
        .aggregate(
            Minute::new,
            (key, event, minute) -> {
              minute.orders += 1;
              minute.amount_cents += cents(event.data.amount);
              return minute;
            },
            Materialized.<String, Minute, WindowStore<Bytes, byte[]>>as(
                    "user_order_minutes")
                .withKeySerde(Serdes.String())
                .withValueSerde(json(Minute.class))
                .withCachingEnabled()
                .withRetention(Duration.ofHours(25)));
    return builder;
  }

  public static void main(String[] args) throws Exception {
    Properties settings = new Properties();
    try (var file = Files.newInputStream(Path.of(args[0]))) {
      settings.load(file);
    }
    KafkaStreams streams = new KafkaStreams(topology().build(settings), settings);
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

  private OrderStreams() {}
}
