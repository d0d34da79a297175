;; The smallest rule that keeps the contract: it reads the member `x`, may write `y` and never does, may reject for `bad`.
;;
;; What a test is about is put in where it says so below: any items, and these functions, of which each has a default that
;; does nothing.
;;   $on_configure                     before the manifest is returned
;;   $on_batch                         before the rows of a batch, when the outcome is made and sound
;;   $on_null (param i32)              for each row in which `x` is null: its row
;;   $on_realloc (param i32 i32) (result i32)   for each allocation by the host: its address and size; the address to return
(module
  (import "weir:rule/log@0.1.0" "log" (func $log (param $level i32) (param $address i32) (param $length i32)))
  (memory (export "memory") 2)

  ;; Where things are in memory. Rows are 4,096 at most, rejections 100.
  (global $outcome (mut i32) (i32.const 0)) ;; what `evaluate` returns: rejections and columns, each as address and length
  (global $column i32 (i32.const 64))       ;; the column `y`: kinds, ends and bytes, each as address and length
  (global $manifest i32 (i32.const 1024))
  (global $rejections i32 (i32.const 2048)) ;; 20 bytes each: row, reason, 1 if there is a detail, its address, its length
  (global $kinds i32 (i32.const 4096))
  (global $ends i32 (i32.const 8192))
  (global $scratch i32 (i32.const 24576))   ;; free for use, up to the heap
  (global $heap (mut i32) (i32.const 65536))

  ;; The batch that is judged.
  (global $rows (mut i32) (i32.const 0))
  (global $processed_at (mut i64) (i64.const 0)) ;; 0 in a probe
  (global $reads (mut i32) (i32.const 0))        ;; its columns, as laid out above

  (data (i32.const 1024)
    "\00\00\00\00"                  ;; 1024: ok
    "\50\04\00\00" "\05\00\00\00"   ;; 1028: name
    "\55\04\00\00" "\03\00\00\00"   ;; 1036: version
    "\60\04\00\00" "\14\00\00\00"   ;; 1044: description
    "\34\04\00\00" "\01\00\00\00"   ;; 1052: reads
    "\3c\04\00\00" "\01\00\00\00"   ;; 1060: writes
    "\44\04\00\00" "\01\00\00\00"   ;; 1068: reasons
    "\58\04\00\00" "\01\00\00\00"   ;; 1076: the first of the reads
    "\59\04\00\00" "\01\00\00\00"   ;; 1084: of the writes
    "\5a\04\00\00" "\03\00\00\00"   ;; 1092: of the reasons
    "    guest1.0xybad   a guest of the tests")

  ;; The guest of the test.
  {guest}

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (call $on_realloc (local.get $start) (local.get $size)))

  (func (export "configure") (param $address i32) (param $length i32) (result i32)
    (call $on_configure)
    (global.get $manifest))

  (func (export "evaluate") (param $rows i32) (param $processed_at i64) (param $reads i32) (param $count i32) (result i32)
    (local $row i32)
    (global.set $heap (i32.const 65536))
    (global.set $rows (local.get $rows))
    (global.set $processed_at (local.get $processed_at))
    (global.set $reads (local.get $reads))
    (call $make_outcome)
    (call $on_batch)
    (loop $next
      (if (i32.lt_u (local.get $row) (local.get $rows))
        (then
          (if (i32.eq (call $kind (local.get $row)) (i32.const 1)) (then (call $on_null (local.get $row))))
          (local.set $row (i32.add (local.get $row) (i32.const 1)))
          (br $next))))
    (global.get $outcome))

  ;; An outcome that rejects nothing and has a column `y` of absent cells.
  (func $make_outcome
    (if (i32.gt_u (global.get $rows) (i32.const 4096)) (then (unreachable)))
    (global.set $outcome (i32.const 0))
    (memory.fill (global.get $kinds) (i32.const 0) (global.get $rows))
    (memory.fill (global.get $ends) (i32.const 0) (i32.mul (global.get $rows) (i32.const 4)))
    (call $pair (i32.const 0) (global.get $rejections) (i32.const 0))
    (call $pair (i32.const 8) (global.get $column) (i32.const 1))
    (call $pair (global.get $column) (global.get $kinds) (global.get $rows))
    (call $pair (i32.add (global.get $column) (i32.const 8)) (global.get $ends) (global.get $rows))
    (call $pair (i32.add (global.get $column) (i32.const 16)) (global.get $scratch) (i32.const 0)))

  ;; Stores two words.
  (func $pair (param $at i32) (param $first i32) (param $second i32)
    (i32.store (local.get $at) (local.get $first))
    (i32.store offset=4 (local.get $at) (local.get $second)))

  ;; What `x` is in a row.
  (func $kind (param $row i32) (result i32)
    (i32.load8_u (i32.add (i32.load (global.get $reads)) (local.get $row))))

  ;; Writes into `y` of the last row: a cell of this kind that ends at the byte `$end` of the `$length` bytes from
  ;; `$scratch` on. All cells after the row end there too.
  (func $write (param $row i32) (param $kind i32) (param $end i32) (param $length i32)
    (i32.store8 (i32.add (global.get $kinds) (local.get $row)) (local.get $kind))
    (i32.store offset=20 (global.get $column) (local.get $length))
    (loop $next
      (i32.store (call $end_of (local.get $row)) (local.get $end))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $row) (global.get $rows)))))

  ;; Where it is stored where the cell of a row ends.
  (func $end_of (param $row i32) (result i32)
    (i32.add (global.get $ends) (i32.mul (local.get $row) (i32.const 4))))

  ;; Rejects a row, with the detail that begins at `$address` if there is a `$length`.
  (func $reject (param $row i32) (param $reason i32) (param $address i32) (param $length i32)
    (local $at i32)
    (local.set $at (i32.add (global.get $rejections) (i32.mul (i32.load (i32.const 4)) (i32.const 20))))
    (i32.store (i32.const 4) (i32.add (i32.load (i32.const 4)) (i32.const 1)))
    (call $pair (local.get $at) (local.get $row) (local.get $reason))
    (i32.store offset=8 (local.get $at) (i32.ne (local.get $length) (i32.const 0)))
    (call $pair (i32.add (local.get $at) (i32.const 12)) (local.get $address) (local.get $length))))
